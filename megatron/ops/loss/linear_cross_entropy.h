// Cross-entropy of x weight^T that never holds all the logits: they come in chunks of the
// vocabulary, once for the statistics and again for the gradients. It costs one more matrix product
// than the plain way (four instead of three) and saves two [t, v_p] tensors.
//
// Shapes: t tokens, v_p columns of this rank. x [t, h] contiguous and weight [v_p, h] of one
// floating dtype; logits are rounded to that dtype as those of a linear layer are. For the loss,
// statistics, targets and parameters see cross_entropy.h.
#pragma once

#include "megatron/ops/loss/cross_entropy.h"

namespace megatron {

// How many columns a chunk has where the caller does not say, for elements of so many bytes.
int64_t linear_cross_entropy_chunk(int64_t tokens, int64_t element_size);

struct LinearCrossEntropyInputs {
  at::Tensor x, weight, targets;
  VocabularyBlock block;
  CrossEntropyParameters parameters;
  int64_t chunk_columns = 0;  // 0: linear_cross_entropy_chunk
};

// The statistics of this rank's columns.
CrossEntropyStatistics linear_cross_entropy_statistics(const LinearCrossEntropyInputs& inputs);

struct LinearCrossEntropyGradients {
  at::Tensor x;  // [t, h] in x's dtype: this rank's columns' share, summed in accumulation_dtype
  at::Tensor weight;  // [v_p, h], or undefined
};

// The gradients, given the statistics of the whole vocabulary and grad_loss [t]. Where `main_grad`
// ([v_p, h]) is defined the weight's gradient is added into it and not returned.
LinearCrossEntropyGradients linear_cross_entropy_gradients(const LinearCrossEntropyInputs& inputs,
                                                           const CrossEntropyStatistics& statistics,
                                                           const at::Tensor& grad_loss,
                                                           bool x_needs_gradient,
                                                           bool weight_needs_gradient,
                                                           const at::Tensor& main_grad);

}  // namespace megatron
