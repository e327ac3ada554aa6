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
# The sources that differ, one a line. Only those are rewritten, so that no other one is built again.
differing() {
  "$program" --dry-run -Werror "${sources[@]}" 2>&1 | sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: error.*/\1/p' | sort -u
}
mapfile -t wrong < <(differing)
if [ ${#wrong[@]} -eq 0 ]; then
  echo "${#sources[@]} files follow .clang-format"
elif [ "${1:-}" = --fix ]; then
  "$program" -i "${wrong[@]}"
  echo "Formatted ${#wrong[@]} of ${#sources[@]} files"
else
  printf '  %s\n' "${wrong[@]}"
  echo "Expected every source to follow .clang-format, but these do not; run \`make format\`" >&2
  exit 1
fi
