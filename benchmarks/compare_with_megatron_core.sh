#!/usr/bin/env bash
# Compares the time and memory of a training step with megatron-core (with its fused AdamW) on this machine.
# Runs of the two sides alternate, because the speed of a machine drifts.
#
#   benchmarks/compare_with_megatron_core.sh PEER_PYTHON PEER_BENCH [ROUNDS [MODEL ...]]
#
# PEER_PYTHON  a Python that imports megatron-core
# PEER_BENCH   a script that trains it on this device and prints one JSON line with median_step_s and
#              peak_rss_mib; its flags are in models.sh
# ROUNDS       measurements of each model on each side (default 2)
# MODEL        names from models.sh (default: all models of one rank); "parallel": all models of two ranks
#
# Prints a table of median times, their ratio (above 1: ours is faster) and peak resident memory. The exit
# status is 1 if ours is slower or uses more memory in any row.
set -euo pipefail
cd "$(dirname "$0")/.."
source benchmarks/models.sh

if [ $# -lt 2 ]; then
  echo "usage: $0 PEER_PYTHON PEER_BENCH [ROUNDS [MODEL ...]]" >&2
  exit 2
fi
peer_python=$1 peer_bench=$2 rounds=${3:-2}
shift $(($# < 3 ? $# : 3))
if [ "$*" = parallel ]; then model_names=("${parallel_model_names[@]}"); elif [ $# -gt 0 ]; then model_names=("$@"); fi
program=${MEGATRON:-build/megatron}
threads=${OMP_NUM_THREADS:-$(nproc)}
[ -x "$program" ] || { echo "Expected $program; run \`make build\`, or set MEGATRON to another program" >&2; exit 1; }

# number KEY < JSON: the value of KEY, or the first element if it is a list.
number() {
  sed -n 's/.*"'"$1"'": *\[\{0,1\}\([0-9.eE+-]*\).*/\1/p' | tail -n 1
}

median() {
  sort -g | awk '{value[NR] = $1} END {print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2}'
}

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
measure() {  # SIDE MODEL COMMAND ...: appends to SIDE.MODEL.ms and SIDE.MODEL.mib
  local side=$1 model=$2 json ms mib
  shift 2
  json=$("$@" 2> "$results/errors") || { tail -n 3 "$results/errors" >&2; return 1; }
  if [ "$side" = ours ]; then
    ms=$(number ms_per_step <<< "$json")
  else
    ms=$(number median_step_s <<< "$json" | awk '{print $1 * 1000}')
  fi
  mib=$(number peak_rss_mib <<< "$json")
  echo "$ms" >> "$results/$side.$model.ms"
  echo "$mib" >> "$results/$side.$model.mib"
  printf '%-16s %-14s %9.1f ms %7.0f MiB\n' "$model" "$side" "$ms" "$mib" >&2
}

for model in "${model_names[@]}"; do
  [ -n "${our_flags[$model]:-}" ] || { echo "Expected a model of ${!our_flags[*]}, but got '$model'" >&2; exit 2; }
  rank_threads=$((threads / ${model_ranks[$model]:-1}))
  for ((round = 0; round < rounds; round++)); do
    measure ours "$model" "$program" bench --threads "$rank_threads" ${our_flags[$model]}
    measure megatron-core "$model" "$peer_python" "$peer_bench" --threads "$rank_threads" --fused-adam ${peer_flags[$model]}
  done
done

printf '| model | megatron.cpp ms | megatron-core ms | speed ratio | megatron.cpp MiB | megatron-core MiB |\n'
printf '|---|---|---|---|---|---|\n'
behind=0
for model in "${model_names[@]}"; do
  ours=$(median < "$results/ours.$model.ms") theirs=$(median < "$results/megatron-core.$model.ms")
  our_mib=$(median < "$results/ours.$model.mib") their_mib=$(median < "$results/megatron-core.$model.mib")
  awk -v m="$model" -v a="$ours" -v b="$theirs" -v c="$our_mib" -v d="$their_mib" \
    'BEGIN {printf "| %s | %.1f | %.1f | %.2f | %.0f | %.0f |\n", m, a, b, b / a, c, d; exit a > b || c > d}' || behind=1
done
exit $behind
