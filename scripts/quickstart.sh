#!/usr/bin/env bash
# The quickstart, after the build: a dataset from the text that comes with the project, a GPT trained on it
# over four ranks (TP=2 x PP=2) and stopped half-way, the rest of the training in another layout
# (TP=2 x DP=2), a sample of text, a summary. Everything lands in runs/quickstart; what is already there is
# not done again, so a second run takes up where the first one ended.
set -euo pipefail
cd "$(dirname "$0")/.."

program=build/megatron
config=examples/quickstart.yaml
tokenizer=examples/data/tokenizer.json
run=runs/quickstart
data=$run/data/kjv_text_document
statistics=$run/data/preprocess.txt
checkpoints=$run/checkpoints
train_iters=$(sed -n 's/^ *train-iters: *//p' $config)
half=$((train_iters / 2))

heading() {
  printf '\n== %s\n' "$*"
}

iterations_done() {
  cat $checkpoints/latest_checkpointed_iteration.txt 2> /dev/null || echo 0
}

prepare_data() {
  if [ -f $data.idx ] && [ -s $statistics ]; then
    echo "already there: $data.bin, $data.idx"
    return
  fi
  mkdir -p $run/data
  # A chapter is a document: its heading, such as "1 Kings 22", opens it.
  $program preprocess --input examples/data/kjv.txt --document-start '^[0-9A-Z][A-Za-z ]* [0-9]+$' \
    --output-prefix $run/data/kjv --tokenizer-model $tokenizer --append-eod --workers 2 \
    --statistics | tee $statistics
}

# Trains from the checkpoint that is there, if any, over four processes, with the flags given.
train() {
  local load=()
  [ "$(iterations_done)" -eq 0 ] || load=(--load $checkpoints)
  $program train --config $config --data-path $data --tokenizer-model $tokenizer --nproc 4 "$@" \
    --save $checkpoints "${load[@]}" --log-json $run/metrics.jsonl --tensorboard-dir $run/tensorboard \
    --report $run/report.html
}

generate_sample() {
  if [ $run/sample.txt -nt $checkpoints/latest_checkpointed_iteration.txt ]; then
    echo "already there: $run/sample.txt"
    return
  fi
  $program generate --load $checkpoints --tokenizer-model $tokenizer --prompt "And God said" \
    --max-new-tokens 120 --temperature 0.8 --top-k 40 --seed 1234 > $run/sample.txt.new
  mv $run/sample.txt.new $run/sample.txt
}

summarize() {
  local bits counted
  counted=$(sed -n 's/.*: \([0-9.]*\) bits per byte by unigrams, \([0-9.]*\) by bigrams.*/\1 by unigrams, \2 by bigrams/p' \
    $statistics)
  bits=$(sed -n 's/.*"split":"validation".*"bits_per_byte":\([0-9.eE+-]*\).*/\1/p' $run/metrics.events.jsonl |
    tail -n 1 | awk '{printf "%.3f", $1}')
  heading "Summary"
  row() { printf '%-30s  %s\n' "$1" "$2"; }
  row "validation loss" "$bits bits per byte after $(iterations_done) steps"
  row "  for comparison" "$counted: counts of the training part, on the same text"
  row "half-way" "checkpoint of TP=2 x PP=2 taken up by TP=2 x DP=2"
  row $checkpoints/ "the trained model, for megatron inspect, generate, train --load"
  row $run/report.html "loss curve, layout, speed: open it in a browser"
  row $run/metrics.jsonl "one JSON object a step"
  row $run/tensorboard/ "scalars, for tensorboard --logdir"
  row $run/sample.txt "generated text:"
  echo
  sed '/^$/d' $run/sample.txt | fold -s -w 110 | sed 's/^/  | /'
}

heading "Data: $data"
prepare_data

heading "Training: steps 1 to $half of $train_iters over 4 processes, TP=2 x PP=2"
if [ "$(iterations_done)" -ge $half ]; then
  echo "already there: $checkpoints, at step $(iterations_done)"
else
  train --tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --exit-interval $half
  if [ "$(iterations_done)" -lt $half ]; then
    echo "stopped at step $(iterations_done); make quickstart goes on from there" >&2
    exit 1
  fi
fi

heading "Resuming in another layout: steps $((half + 1)) to $train_iters over 4 processes, TP=2 x DP=2"
if [ "$(iterations_done)" -ge "$train_iters" ]; then
  echo "already there: $checkpoints, at step $(iterations_done) (make clean removes it)"
else
  train --tensor-model-parallel-size 2
fi

heading "Text from the trained model"
generate_sample
summarize
