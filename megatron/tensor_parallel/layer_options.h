// Options shared by all tensor-parallel layers: dtype, device, groups and kinds of communication.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

struct LayerOptions {
  at::TensorOptions tensor;  // dtype and device of the parameters
  ProcessGroupPtr tp;
  bool sequence_parallel = false;
  // With sequence parallelism, column-parallel layers save their local input and all-gather it
  // again in backward, instead of saving the gathered input.
  bool all_gather_input_in_backward = false;
  // With sequence parallelism, collectives run in pieces that overlap with matmuls.
  bool tp_comm_overlap = false;
  ProcessGroupPtr cp = nullptr;  // ranks that share a sequence; null without context parallelism

  // The sharding of a parameter that is partitioned along `dim`, or replicated if that is -1.
  TensorParallelSharding sharding(int dim = -1, int stride = 1) const {
    return {dim, stride, tp->rank(), tp->size()};
  }
};

}  // namespace megatron
