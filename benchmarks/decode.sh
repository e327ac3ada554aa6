#!/usr/bin/env bash
# Prefill and decode speed of GPT-2 124M and SmolLM2-135M on this machine, beside llama.cpp.
#
#   benchmarks/decode.sh [LLAMA_BENCH GGUF_FOLDER]
#
# LLAMA_BENCH  llama.cpp's llama-bench; build_llama_bench.sh builds it
# GGUF_FOLDER  gpt2-f32.gguf, gpt2-bf16.gguf, smollm2-f32.gguf, smollm2-bf16.gguf; -q8_0 and -q4_0 are
#              compared with int8 and int4. A missing file leaves its column empty
#
# THREADS (default: all cores), PROMPT (512), NEW (128) and REPEATS (3) are environment variables. Runs of
# the two sides alternate. Prints medians in tokens per second, and the share of the memory bandwidth.
set -euo pipefail
cd "$(dirname "$0")/.."
llama_bench=${1:-} folder=${2:-}
program=${MEGATRON:-build/megatron}
[ -x "$program" ] || { echo "Expected $program; run \`make build\`, or set MEGATRON to another program" >&2; exit 1; }
threads=${THREADS:-$(nproc)} prompt=${PROMPT:-512} new=${NEW:-128} repeats=${REPEATS:-3}

gpt2="--num-layers 12 --hidden-size 768 --num-attention-heads 12 --seq-length 1024 --vocab-size 50257
  --attention-dropout 0 --hidden-dropout 0"
smollm2="--num-layers 30 --hidden-size 576 --num-attention-heads 9 --num-query-groups 3 --ffn-hidden-size 1536
  --seq-length 2048 --vocab-size 49152 --swiglu --normalization RMSNorm --disable-bias-linear
  --position-embedding-type rope --rotary-base 100000 --attention-dropout 0 --hidden-dropout 0"
declare -A flags=([gpt2]=$gpt2 [smollm2]=$smollm2)
declare -A type_of=([fp32]=f32 [bf16]=bf16 [int8]=q8_0 [int4]=q4_0)

# number KEY < JSON
number() { sed -n 's/.*"'"$1"'": *\([0-9.eE+-]*\).*/\1/p' | tail -n 1; }

# peer FILE KIND: llama-bench's median tokens per second of prefill (p) or decode (n)
peer() {
  [ -n "$llama_bench" ] && [ -f "$1" ] || return 0
  local sizes=(-p "$prompt" -n 0)
  [ "$2" = p ] || sizes=(-p 0 -n "$new" -d "$prompt")
  "$llama_bench" -m "$1" -t "$threads" "${sizes[@]}" -r "$repeats" -o jsonl 2> /dev/null |
    sed -n 's/.*"samples_ts": *\[\([^]]*\)\].*/\1/p' | tr ',' '\n' | sort -g |
    awk '{value[NR] = $1} END {if (NR) printf "%.1f", value[int((NR + 1) / 2)]}'
}

echo "| model | weights | decode | llama.cpp | prefill | llama.cpp | share of bandwidth |"
echo "|---|---|---|---|---|---|---|"
for model in gpt2 smollm2; do
  for weights in fp32 bf16 int8 int4; do
    dtype=$([ $weights = fp32 ] || echo --bf16)
    # shellcheck disable=SC2086
    json=$("$program" bench --decode ${flags[$model]} $dtype --weights $weights --prompt-tokens "$prompt" \
      --new-tokens "$new" --warmup-steps 1 --steps "$repeats" --threads "$threads")
    file=$folder/$model-${type_of[$weights]}.gguf
    printf '| %s | %s | %.1f | %s | %.0f | %s | %.2f |\n' $model $weights \
      "$(number decode_tokens_per_s <<< "$json")" "$(peer "$file" n)" \
      "$(number prefill_tokens_per_s <<< "$json")" "$(peer "$file" p)" \
      "$(number bandwidth_fraction <<< "$json")"
  done
done
