// Cross-entropy of logits whose vocabulary is partitioned over the tensor-parallel group, without
// gathering them (Megatron core/tensor_parallel/cross_entropy.py).
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// logits [..., v/tp] in any floating dtype, targets [...] int64 global ids -> loss [...] in nats,
// in the wider of fp32 and the logits' dtype. The gradient has the logits' dtype. Columns from
// `vocab_size` on are padding of the vocabulary; their logits count as minus infinity.
//
// `label_smoothing` in [0, 1) distributes that fraction of the target's weight evenly over the
// other ids of the vocabulary, in every layout (formula: ops/loss/cross_entropy.h).
//
// Throws Error for a target outside [0, vocab_size). The group must outlive the graph.
at::Tensor vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                        int64_t vocab_size, const ProcessGroup& tp,
                                        double label_smoothing = 0.0);

// The same loss, bit for bit (Megatron's --cross-entropy-loss-fusion, implementation "native"),
// with two all-reduces instead of three, or four with label smoothing. Backward writes the gradient
// over the logits instead of allocating a second tensor of their size; autograd then refuses a
// second backward, and the backward of any other operator that saved the logits. Logits that are
// leaves are not overwritten. The gradient has the logits' dtype; Megatron rounds it to bf16.
at::Tensor fused_vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                              int64_t vocab_size, const ProcessGroup& tp,
                                              double label_smoothing = 0.0);

}  // namespace megatron
