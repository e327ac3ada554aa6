// The likeliest token of logits whose vocabulary is split over the tensor-parallel group.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// logits [..., v/tp] in any floating dtype -> int64 global ids [...], the same on every rank and in
// every layout: of equal logits the lowest id. Columns from `vocab_size` on pad the vocabulary and
// are never chosen; a NaN is not either, and where there is nothing else the id is 0. Without a
// gradient.
at::Tensor vocab_parallel_argmax(const at::Tensor& logits, int64_t vocab_size,
                                 const ProcessGroup& tp);

}  // namespace megatron
