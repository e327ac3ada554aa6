#!/bin/bash
# Step time and peak memory with each setting of activation recomputation: GPT-2 124M, bf16, dropout 0.1.
# Runs alternate; the table shows the least time over rounds.
#   benchmarks/recompute.sh [PROGRAM] [ROUNDS]
set -euo pipefail
program=${1:-build/megatron} rounds=${2:-2}
model="--num-layers 12 --hidden-size 768 --num-attention-heads 12 --seq-length 512 --micro-batch-size 4
  --vocab-size 50304 --attention-dropout 0.1 --hidden-dropout 0.1 --bf16 --warmup-steps 1 --steps 3"
names=(none core_attn layernorm mlp "core_attn layernorm mlp" "full, block 6" "full, uniform 1")
flags=("" "--recompute-activations" "--recompute-activations --recompute-modules layernorm"
  "--recompute-activations --recompute-modules mlp"
  "--recompute-activations --recompute-modules core_attn layernorm mlp"
  "--recompute-granularity full --recompute-method block --recompute-num-layers 6"
  "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1")

# number KEY < JSON: the value of KEY
number() { sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p"; }

declare -A ms mib
for ((round = 0; round < rounds; ++round)); do
  for i in "${!names[@]}"; do
    # shellcheck disable=SC2086  # flags are words
    result=$("$program" bench $model ${flags[i]})
    time=$(number ms_per_step <<<"$result") peak=$(number peak_rss_mib <<<"$result")
    if [[ -z ${ms[$i]:-} ]] || awk "BEGIN { exit !($time < ${ms[$i]}) }"; then ms[$i]=$time; fi
    mib[$i]=$peak
  done
done

echo "| recomputed | ms | peak MiB | time | memory |"
echo "|---|---|---|---|---|"
for i in "${!names[@]}"; do
  awk -v name="${names[i]}" -v ms="${ms[$i]}" -v mib="${mib[$i]}" -v ms0="${ms[0]}" -v mib0="${mib[0]}" \
    'BEGIN { printf "| %s | %.0f | %.0f | %.2f | %.2f |\n", name, ms, mib, ms / ms0, mib / mib0 }'
done
