// Cross-entropy over logits whose vocabulary is split over the tensor-parallel group
// (Megatron core/tensor_parallel/cross_entropy.py), without gathering them.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// logits [..., v/tp] in any floating dtype, targets [...] int64 global ids -> loss [...] in nats,
// in the wider of fp32 and the logits' dtype; the gradient comes in the logits' dtype. Columns from
// `vocab_size` on pad the vocabulary and count as minus infinity.
//
// `label_smoothing` in [0, 1) moves that share of the target's weight evenly to the others of the
// `vocab_size` ids, whatever the layout (the formula is in ops/cross_entropy.h).
//
// Throws Error for a target outside [0, vocab_size). The group must outlive the graph.
at::Tensor vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                        int64_t vocab_size, const ProcessGroup& tp,
                                        double label_smoothing = 0.0);

// The same numbers bit for bit (Megatron's --cross-entropy-loss-fusion, implementation "native")
// with two all-reduces, whatever the options, instead of three or four, and a backward that writes
// the gradient over the logits, so that the loss needs no second tensor of their size. Afterwards
// the logits hold the gradient: autograd refuses a second backward, or that of another user of
// their values. Logits that are leaves are left alone. The gradient keeps the logits' dtype, where
// Megatron rounds it to bf16.
at::Tensor fused_vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                              int64_t vocab_size, const ProcessGroup& tp,
                                              double label_smoothing = 0.0);

}  // namespace megatron
