#!/usr/bin/env bash
# Trains the quickstart's model on its data in every precision, one run after another, and prints a table:
# the mean loss of the last steps beside that of bf16, the time of a step and the memory.
#   benchmarks/precision_losses.sh [STEPS [EXTRA FLAGS...]]      300 steps by default
# Runs land in runs/precision; one that is there is not done again. `make quickstart` prepares the data.
set -euo pipefail
cd "$(dirname "$0")/.."
program=build/megatron
steps=${1:-300}
shift || true
extra=("$@")
data=runs/quickstart/data/kjv_text_document
folder=runs/precision
if [ ! -f $data.idx ]; then
  echo "Expected the data of the quickstart in $data.idx, but found none; make quickstart prepares it" >&2
  exit 1
fi
mkdir -p $folder

declare -A flags=(
  [fp32]="--bf16=false"
  [bf16]=""
  [fp16]="--bf16=false --fp16 --initial-loss-scale 65536"
  [delayed]="--fp8-format hybrid --fp8-recipe delayed"
  [tensorwise]="--fp8-format hybrid --fp8-recipe tensorwise"
  [blockwise]="--fp8-format e4m3 --fp8-recipe blockwise"
  [mxfp8]="--fp8-format e4m3 --fp8-recipe mxfp8"
)
names=(fp32 bf16 fp16 delayed tensorwise blockwise mxfp8)

# The mean of a field over the last tenth of the steps.
mean_of_last() {
  tail -n $(((steps + 9) / 10)) "$folder/$1.jsonl" | sed -n "s/.*\"$2\":\([0-9.eE+-]*\).*/\1/p" |
    awk '{sum += $1} END {printf "%.10g", sum / NR}'
}

for name in "${names[@]}"; do
  log=$folder/$name.jsonl
  if [ -f "$log" ] && [ "$(wc -l < "$log")" -eq "$steps" ]; then continue; fi
  rm -f "$log"
  read -ra precision <<< "${flags[$name]}"
  $program train --config examples/quickstart.yaml --data-path $data \
    --tokenizer-model examples/data/tokenizer.json --train-iters "$steps" --eval-interval 0 \
    --log-json "$log" "${precision[@]}" "${extra[@]}" \
    > "$folder/$name.txt"
done

baseline=$(mean_of_last bf16 loss)
echo "| precision | loss, mean of the last tenth of $steps steps | against bf16 | ms a step | MiB |"
echo "|---|---|---|---|---|"
for name in "${names[@]}"; do
  loss=$(mean_of_last "$name" loss)
  awk -v name="$name" -v loss="$loss" -v base="$baseline" -v ms="$(mean_of_last "$name" ms)" \
    -v mib="$(mean_of_last "$name" memory_mib)" \
    'BEGIN {printf "| %s | %.4f | %+.2f%% | %.0f | %.0f |\n", name, loss, 100 * (loss / base - 1), ms, mib}'
done
