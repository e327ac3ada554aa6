// Blocks of the activation between an expert's two products: kernels on plain pointers, T one of
// float, double, BFloat16, A its accumulation type.
#pragma once

#include <cstdint>

#include "megatron/ops/activation_kernels.h"
#include "megatron/ops/core/accumulation_type.h"

namespace megatron::kernels {

struct ActivationFunction {
  Activation function;
  const GluOptions* glu;  // null: not gated
};

// Sums of linear_fc1 in [rows, columns], which become its output `hidden` (+ bias, rounded to T) and,
// from the rounded values, `output` = weight of the row times the activation. Gated: *_up point to the
// up-projection's block, of the same shape and strides; otherwise they are not read.
template <typename T>
struct ActivationBlock {
  using A = lanes::accumulation_t<T>;
  int64_t rows, columns;
  const A *sums, *sums_up;
  int64_t sums_stride;
  const T *bias, *bias_up;  // or null
  const A* weights;         // [rows] or null
  T *hidden, *hidden_up;
  int64_t hidden_stride;
  T* output;
  int64_t output_stride;
};

template <KernelLevel level, typename T>
void activation_block_forward(const ActivationFunction& activation,
                              const ActivationBlock<T>& block);

// From `gradient`, that of the activation's output: grad_hidden, the output again (unless null), and
// for each row the gradient of its weight (unless null), summed over the columns of the block.
template <typename T>
struct ActivationGradientBlock {
  using A = lanes::accumulation_t<T>;
  int64_t rows, columns;
  const A* gradient;
  int64_t gradient_stride;
  const T *hidden, *hidden_up;
  int64_t hidden_stride;  // of grad_hidden too
  const A* weights;       // [rows] or null
  T *grad_hidden, *grad_hidden_up;
  T* output;
  int64_t output_stride;
  A* grad_weights;
  int64_t grad_weights_stride;
};

template <KernelLevel level, typename T>
void activation_block_backward(const ActivationFunction& activation,
                               const ActivationGradientBlock<T>& block);

}  // namespace megatron::kernels
