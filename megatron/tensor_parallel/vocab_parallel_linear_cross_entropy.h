// The output layer and the cross-entropy in one (Megatron's --cross-entropy-loss-fusion,
// implementation "linear"): the logits exist a chunk of the vocabulary at a time.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

struct LinearCrossEntropyOptions {
  bool sequence_parallel = false;
  double label_smoothing = 0;  // in [0, 1)
  double logit_scale = 1;      // above 0: logits = logit_scale * hidden weight^T
  int64_t chunk_columns = 0;   // columns of the vocabulary at a time; 0: chosen
};

// hidden [s, b, h] (the same on all ranks), or [s/tp, b, h] with sequence parallelism; weight
// [v/tp, h] of hidden's dtype; targets [s, b] int64 global ids -> loss [s, b] in nats, in the wider
// of fp32 and hidden's dtype. Columns from `vocab_size` on pad the vocabulary: they count as minus
// infinity and get a gradient of 0.
//
// Equal to a column-parallel linear layer without a bias, then vocab_parallel_cross_entropy, but
// for roundings; of its memory remain the inputs, the weight's gradient and one chunk, for one
// matrix product more (the logits are computed again in backward). As there, the weight's gradient
// is added into weight->main_grad where there is one, and hidden's is reduced over the group.
//
// Throws Error for a target outside [0, vocab_size) and shapes that do not fit. The group must
// outlive the graph.
at::Tensor vocab_parallel_linear_cross_entropy(const at::Tensor& hidden, const ParameterPtr& weight,
                                               const at::Tensor& targets, int64_t vocab_size,
                                               const ProcessGroup& tp,
                                               const LinearCrossEntropyOptions& options = {});

}  // namespace megatron
