// What every module needs to allocate its part: dtype, device and the tensor-parallel group.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

struct LayerOptions {
  at::TensorOptions tensor;  // dtype and device of the parameters
  ProcessGroupPtr tp;
  bool sequence_parallel = false;
  // Column-parallel layers gather their input again in backward instead of keeping it whole.
  bool regathers_input = false;
  // With sequence parallelism: exchanges come in pieces, beside the products of other pieces.
  bool overlaps_pieces = false;
  ProcessGroupPtr cp = nullptr;  // who shares a sequence; null: nobody

  // The marks of a parameter that is split along `dim` (or, with -1, not at all).
  TensorParallelSharding sharding(int dim = -1, int stride = 1) const {
    return {dim, stride, tp->rank(), tp->size()};
  }
};

// `numerator` over `denominator` where it divides. Throws Error naming `what` otherwise.
int64_t divide(int64_t numerator, int64_t denominator, const char* what);

}  // namespace megatron
