#!/bin/bash
# Loading and converting models of random weights, with a warm page cache, against reading and copying the
# files. Makes 7 GB of files in FOLDER and removes them.
#   benchmarks/load.sh FOLDER [PROGRAM] [ROUNDS]
set -euo pipefail
folder=${1:?Expected a folder for the models} program=${2:-build/megatron} rounds=${3:-3}
here=$(dirname "$0")
work=$folder/megatron-load-$$
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
shopt -s nullglob

now() { date +%s.%N; }
since() { echo "$(now) $1" | awk '{ printf "%.2f", $1 - $2 }'; }
# The largest RssAnon of the process $1 in MB, until it ends.
watch_memory() {
  local most=0 value
  while value=$(awk '/^RssAnon/ { print $2 }' "/proc/$1/status" 2> /dev/null) && [ -n "$value" ]; do
    if [ "$value" -gt "$most" ]; then most=$value; fi
    sleep 0.02
  done
  echo $((most * 1024 / 1000000))
}
row() { printf '| %s | %s |\n' "$1" "$2"; }

# The size of Llama 3.2 1B, and 1.0 GB.
"$here/random_model.py" "$work/1b"
"$here/random_model.py" "$work/1gb" --layers 26 --hidden 1024 --heads 16 --groups 8 --ffn 4096 --vocabulary 65536

printf '| what | seconds, MB |\n|---|---|\n'
for ((round = 0; round < rounds; ++round)); do
  for model in 1gb 1b; do
    file=$work/$model/model.safetensors
    cat "$file" > /dev/null
    start=$(now)
    dd if="$file" of=/dev/null bs=4M status=none
    row "$model: read of the file" "$(since "$start") s"
    start=$(now)
    "$program" generate --load "$work/$model" --prompt a --greedy --max-new-tokens 1 > "$work/log" &
    pid=$!
    memory=$(watch_memory $pid)
    wait $pid
    row "$model: generate --load, from the start of the program to the end, one token" \
      "$(since "$start") s, RssAnon $memory MB"
  done
  sync
  start=$(now)
  cp "$work/1gb/model.safetensors" "$work/copy"
  sync
  row "1gb: cp and sync" "$(since "$start") s"
  rm "$work/copy"
  sync
  start=$(now)
  "$program" convert --from-hf "$work/1gb" --save "$work/checkpoint" > /dev/null
  row "1gb: convert --from-hf" "$(since "$start") s"
  sync
  start=$(now)
  "$program" convert --load "$work/checkpoint" --to-hf "$work/out" > /dev/null
  row "1gb: convert --to-hf" "$(since "$start") s"
  rm -rf "$work/checkpoint" "$work/out"
  sync
done
