// The most likely token of logits whose vocabulary is partitioned over the tensor-parallel group.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// logits [..., v/tp] in any floating dtype -> int64 global ids [...], the same on every rank and in
// every layout. Ties go to the lowest id. Columns from `vocab_size` on are padding and are never
// chosen, nor is NaN; a row without any other logit gives 0. Not differentiable.
at::Tensor vocab_parallel_argmax(const at::Tensor& logits, int64_t vocab_size,
                                 const ProcessGroup& tp);

}  // namespace megatron
