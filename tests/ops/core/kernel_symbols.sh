#!/bin/sh
# Checks kernel objects compiled for one level (megatron/ops/core/kernel_level.h): the linker must not
# merge their functions with those of other objects, and no code may run when the library is loaded.
# Usage: kernel_symbols.sh <nm> <level> <number of the level> <object>...
nm=$1 level=$2 number=$3
shift 3
status=0
for object in "$@"; do
  symbols=$("$nm" -C --extern-only --defined-only "$object") || exit 1
  if [ -z "$symbols" ]; then
    echo "$object: Expected kernels, but got no symbols"
    status=1
  fi
  # DW.ref symbols are pointers for exception handling, the same at every level.
  shared=$(echo "$symbols" | grep -v "(megatron::KernelLevel)$number\b\|::$level::\| DW\.ref\.")
  if [ -n "$shared" ]; then
    echo "$object: Expected symbols of level $level only, but got:"
    echo "$shared"
    status=1
  fi
  initializers=$("$nm" "$object" | grep _GLOBAL__sub_I)
  if [ -n "$initializers" ]; then
    echo "$object: Expected no static initialization, but got:"
    echo "$initializers"
    status=1
  fi
done
exit $status
