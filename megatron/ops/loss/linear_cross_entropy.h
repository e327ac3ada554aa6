// Cross-entropy of x weight^T that never holds all logits: they are computed in chunks of the
// vocabulary, once for the statistics and again for the gradients. That is four matrix products
// instead of three, and saves two [t, v_p] tensors.
//
// Shapes: t tokens, v_p columns of this rank. x [t, h] contiguous and weight [v_p, h] have one
// floating dtype; logits are rounded to it, as in a linear layer. Loss, statistics, targets and
// parameters are those of cross_entropy.h.
#pragma once

#include "megatron/ops/loss/cross_entropy.h"

namespace megatron {

// The default number of columns of a chunk, for elements of `element_size` bytes.
int64_t linear_cross_entropy_chunk(int64_t tokens, int64_t element_size);

struct LinearCrossEntropyInputs {
  at::Tensor x, weight, targets;
  VocabularyBlock block;
  CrossEntropyParameters parameters;
  int64_t chunk_columns = 0;  // 0: linear_cross_entropy_chunk
};

// Statistics of this rank's columns.
CrossEntropyStatistics linear_cross_entropy_statistics(const LinearCrossEntropyInputs& inputs);

struct LinearCrossEntropyGradients {
  // [t, h] in x's dtype: from this rank's columns, summed in accumulation_dtype. Undefined unless
  // asked for.
  at::Tensor x;
  at::Tensor weight;  // [v_p, h], or undefined
};

// The gradients, given the statistics of all columns of all ranks and grad_loss [t]. If `main_grad`
// ([v_p, h]) is defined, the weight gradient is added into it instead of being returned.
LinearCrossEntropyGradients linear_cross_entropy_gradients(const LinearCrossEntropyInputs& inputs,
                                                           const CrossEntropyStatistics& statistics,
                                                           const at::Tensor& grad_loss,
                                                           bool x_needs_gradient,
                                                           bool weight_needs_gradient,
                                                           const at::Tensor& main_grad);

}  // namespace megatron
