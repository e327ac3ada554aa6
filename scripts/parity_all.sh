#!/usr/bin/env bash
# scripts/parity_all.sh FOLDER [LAYOUT FLAGS ...]
# Runs every case under FOLDER with `megatron parity` and prints a table: megatron-core's cases (*.json
# with a .safetensors file of the same name), Hugging Face folders (config.json and
# expected.safetensors) and GGUF folders (model.gguf). Flags after the folder choose the layout, as in
#   scripts/parity_all.sh CASES --nproc 2 --threads-as-ranks --tensor-model-parallel-size 2
# MEGATRON names the program; default build/megatron. The exit status is 0 where every case that this
# program can express passes; models that it refuses are listed with the reason.
set -u

if [[ $# -lt 1 || ! -d $1 ]]; then
  echo "Expected a folder with cases, but got '${1-}'; usage: $0 FOLDER [LAYOUT FLAGS ...]" >&2
  exit 2
fi
folder=$1
shift
program=${MEGATRON:-$(dirname "$0")/../build/megatron}
if [[ ! -x $program ]]; then
  echo "Expected the program at $program, but got none; build it, or set MEGATRON" >&2
  exit 2
fi

passed=0 failed=0 refused=0
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# run NAME ARGUMENTS...: one case, one line.
run() {
  local name=$1 output last
  shift
  if output=$("$program" parity "$@" 2>"$errors"); then
    passed=$((passed + 1))
    printf '%-44s PASS  %s\n' "$name" "$(largest <<<"$output")"
    return
  fi
  last=$(tail -n 1 "$errors")
  if grep -q '^FAIL' <<<"$output"; then
    failed=$((failed + 1))
    printf '%-44s FAIL  %s\n' "$name" "$(largest <<<"$output")"
  else
    refused=$((refused + 1))
    printf '%-44s -     %s\n' "$name" "${last#error: }"
  fi
}

# The largest differences of the table: a word per kind.
largest() {
  awk '$1 ~ /^(logits|source_|step_loss|gradient|greedy_tokens|token_ids|round_trip|weight_after3)/ \
         && NF >= 3 { printf "%s %s  ", $1, $3 }'
}

while IFS= read -r -d '' file; do
  directory=$(dirname "$file")
  name=${directory#"$folder"}
  name=${name#/}
  case $file in
    */expected.safetensors)
      if [[ -f $directory/model.gguf ]]; then
        run "$name" --gguf "$directory" "$@"
      elif [[ -f $directory/config.json ]]; then
        run "$name" --hf "$directory" "$@"
      fi
      ;;
    *.json)
      if [[ -f ${file%.json}.safetensors ]] && grep -q '"transformer_config"' "$file"; then
        run "${name:+$name/}$(basename "${file%.json}")" "$file" "$@"
      fi
      ;;
  esac
done < <(find "$folder" -type f \( -name expected.safetensors -o -name '*.json' \) -print0 | sort -z)

echo "$passed passed, $failed failed, $refused refused"
[[ $failed -eq 0 ]]
