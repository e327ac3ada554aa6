#!/usr/bin/env bash
# Compares two ranks of one thread with one rank of two threads on the same global batch: GPT-2 124M, bf16.
# Runs alternate; the table shows the median over rounds.
#
#   benchmarks/parallel.sh [PROGRAM] [ROUNDS]
#
# The global batch is 16 sequences of 512 tokens. PP divides it into 16 micro-batches and puts 9 of the 12 layers
# on the first stage, to balance the output layer on the last. Efficiency is the time of one rank over that of two.
set -euo pipefail
program=${1:-build/megatron} rounds=${2:-3}
model="--num-layers 12 --hidden-size 768 --num-attention-heads 12 --seq-length 512 --vocab-size 50304 --bf16
  --attention-dropout 0 --hidden-dropout 0 --global-batch-size 16 --warmup-steps 1 --steps 2"
names=(DP=2 "DP=2, distributed optimizer" TP=2 "TP=2, sequence parallel" PP=2)
flags=("--micro-batch-size 2" "--micro-batch-size 2 --use-distributed-optimizer"
  "--micro-batch-size 2 --tensor-model-parallel-size 2"
  "--micro-batch-size 2 --tensor-model-parallel-size 2 --sequence-parallel"
  "--micro-batch-size 1 --pipeline-model-parallel-size 2 --decoder-first-pipeline-num-layers 9")
alone=("--micro-batch-size 2" "--micro-batch-size 2" "--micro-batch-size 2" "--micro-batch-size 2" "--micro-batch-size 1")

# milliseconds FLAGS ...: the time of a step
milliseconds() {
  # shellcheck disable=SC2086  # flags are words
  "$program" bench $model "$@" | sed -n 's/.*"ms_per_step": *\([0-9.e+-]*\).*/\1/p'
}

median() {
  sort -g | awk '{value[NR] = $1} END {print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2}'
}

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
for ((round = 0; round < rounds; ++round)); do
  for i in "${!names[@]}"; do
    # shellcheck disable=SC2086
    milliseconds ${alone[i]} --threads 2 >> "$results/$i.one"
    # shellcheck disable=SC2086
    milliseconds ${flags[i]} --nproc 2 --threads 1 >> "$results/$i.two"
  done
done

echo "| layout | 1 rank, 2 threads: ms | 2 ranks: ms | efficiency |"
echo "|---|---|---|---|"
for i in "${!names[@]}"; do
  one=$(median < "$results/$i.one") two=$(median < "$results/$i.two")
  awk -v name="${names[i]}" -v one="$one" -v two="$two" \
    'BEGIN { printf "| %s | %.0f | %.0f | %.2f |\n", name, one, two, one / two }'
done
