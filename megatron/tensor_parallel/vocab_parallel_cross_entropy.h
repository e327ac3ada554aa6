// Cross-entropy over logits whose vocabulary is split over the tensor-parallel group
// (Megatron core/tensor_parallel/cross_entropy.py), without gathering them.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// logits [..., v/tp] in any floating dtype, targets [...] int64 global ids -> loss [...] in nats,
// in the wider of fp32 and the logits' dtype: log(sum_j exp(x_j)) - x_target. Columns from
// `vocab_size` on pad the vocabulary and count as minus infinity. Throws Error for a target outside
// [0, vocab_size).
at::Tensor vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                        int64_t vocab_size, const ProcessGroup& tp);

}  // namespace megatron
