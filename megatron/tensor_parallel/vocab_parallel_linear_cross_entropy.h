// The output layer fused with the cross-entropy (Megatron's --cross-entropy-loss-fusion,
// implementation "linear"): logits exist for one chunk of the vocabulary at a time.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

struct LinearCrossEntropyOptions {
  bool sequence_parallel = false;
  double label_smoothing = 0;  // in [0, 1)
  double logit_scale = 1;      // above 0; logits = logit_scale * hidden weight^T
  int64_t chunk_columns = 0;   // columns of the vocabulary per chunk; 0: a measured default
};

// hidden [s, b, h] (the same on all ranks), or [s/tp, b, h] with sequence parallelism; weight
// [v/tp, h] of hidden's dtype; targets [s, b] int64 global ids -> loss [s, b] in nats, in the wider
// of fp32 and hidden's dtype. Columns from `vocab_size` on are padding of the vocabulary: their
// logits count as minus infinity and their gradient is 0.
//
// Equal, up to rounding, to a column-parallel linear layer without bias followed by
// vocab_parallel_cross_entropy. It holds one chunk of logits instead of all logits and their
// gradient, and computes the logits again in backward: one more matrix product. As in that layer,
// the weight gradient is accumulated into weight->main_grad if that is defined, and hidden's
// gradient is reduced over the group.
//
// Throws Error for a target outside [0, vocab_size) and for mismatched shapes. The group must
// outlive the graph.
at::Tensor vocab_parallel_linear_cross_entropy(const at::Tensor& hidden, const ParameterPtr& weight,
                                               const at::Tensor& targets, int64_t vocab_size,
                                               const ProcessGroup& tp,
                                               const LinearCrossEntropyOptions& options = {});

}  // namespace megatron
