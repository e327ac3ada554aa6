#!/usr/bin/env bash
# Benchmarks training steps of the standard models, then the operators.
#   benchmarks/run.sh [BUILD_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
source benchmarks/models.sh

for name in "${model_names[@]}"; do
  echo "$name: $("$build/megatron" bench ${our_flags[$name]} | tr -d '\n')"
done
"$build/ops_benchmark" --benchmark_min_time=0.5
"$build/cross_entropy_benchmark" --benchmark_filter=-chunk_size
