#!/usr/bin/env bash
# Builds llama.cpp's llama-bench from the source package llama-cpp-python on PyPI.
#
#   benchmarks/build_llama_bench.sh FOLDER [VERSION]
#
# Prints the path of the program. Needs pip, cmake and ninja; takes minutes.
set -euo pipefail
folder=${1:?usage: $0 FOLDER [VERSION]} version=${2:-0.3.36}
mkdir -p "$folder"
cd "$folder"
[ -d llama_cpp_python-$version ] || {
  pip download --no-deps --no-binary :all: --no-build-isolation "llama-cpp-python==$version" >&2 ||
    [ -f llama_cpp_python-$version.tar.gz ]
  tar xf llama_cpp_python-$version.tar.gz
}
cmake -S llama_cpp_python-$version/vendor/llama.cpp -B build -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF >&2
cmake --build build --target llama-bench >&2
echo "$PWD/build/bin/llama-bench"
