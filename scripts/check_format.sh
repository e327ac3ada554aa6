#!/usr/bin/env bash
# Checks every C++ and CUDA source against .clang-format; with --fix, rewrites what differs.
# Versions of clang-format disagree about details, so only Debian 12's counts. Exit status 77 (ctest:
# skipped) where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
expected=14

program=$(command -v clang-format-$expected || command -v clang-format || true)
version=$(${program:-true} --version | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
if [ "$version" != "$expected" ]; then
  echo "Expected clang-format $expected, but got ${version:-none} (Debian 12: apt-get install clang-format);" \
    "nothing checked" >&2
  exit 77
fi
mapfile -d '' -t sources < <(find megatron cli tests benchmarks examples -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 | sort -z)
if [ "${1:-}" = --fix ]; then
  "$program" -i "${sources[@]}"
  echo "Formatted ${#sources[@]} files"
elif ! warnings=$("$program" --dry-run -Werror "${sources[@]}" 2>&1); then
  printf '%s\n' "$warnings" | sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: error.*/  \1/p' | sort -u
  echo "Expected every source to follow .clang-format, but these do not; run \`make format\`" >&2
  exit 1
else
  echo "${#sources[@]} files follow .clang-format"
fi
