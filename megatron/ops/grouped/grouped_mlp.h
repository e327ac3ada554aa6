// The MLPs of all experts of a rank as one operator: linear_fc1, bias and activation, the rows'
// probabilities, linear_fc2.
//
// One autograd node keeps its input and the output of linear_fc1. The output of the activation is
// not kept: backward computes it again in a pass that it makes anyway.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/activation.h"

namespace megatron {

// Of e experts, stacked. w is 2f if gated (in each expert the gate's rows, then the up-projection's),
// otherwise f.
struct GroupedMLPWeights {
  at::Tensor fc1_weight;  // [e, w, h]
  at::Tensor fc1_bias;    // [e, w] or undefined
  at::Tensor fc2_weight;  // [e, h, f]
  at::Tensor fc2_bias;    // [e, h] or undefined
  // Accumulate the weight gradients, as in grouped_linear(); may be undefined.
  at::Tensor fc1_main_grad, fc2_main_grad;
};

struct GroupedMLPOptions {
  ActivationOptions activation;
  // If set, backward passes the computation of the weight gradients to it instead of running it
  // (Megatron's delay_wgrad_compute). Then both weights need a main_grad if they require gradients.
  std::function<void(std::function<void()>)> defer_weight_gradients;
};

// x [t, h] with rows sorted by expert, probs [t] (fp32, fp64 or x's dtype) or undefined, counts [e]
// (contiguous int64 on the CPU, adding up to t) -> [t, h] in x's dtype. Row r of expert i is
//   (p_r activation(x_r fc1_weight_i^T + fc1_bias_i)) fc2_weight_i^T + p_r fc2_bias_i,
// with p_r = 1 if probs is undefined. The product with p_r is taken in fp32 (fp64 for fp64) before
// the activation's output is rounded (Megatron's weighted_bias_swiglu and its kin). Rows with
// p_r = 0, such as padding, give exact zeros.
//
// Gradients: x, probs, all weights and biases.
at::Tensor grouped_mlp(const at::Tensor& x, const at::Tensor& probs, const at::Tensor& counts,
                       const GroupedMLPWeights& weights, const GroupedMLPOptions& options);

// The same function composed of differentiable libtorch operators, one expert at a time. It ignores
// neither main_grad nor defer_weight_gradients silently: both must be unset.
namespace unfused {
at::Tensor grouped_mlp(const at::Tensor& x, const at::Tensor& probs, const at::Tensor& counts,
                       const GroupedMLPWeights& weights, const GroupedMLPOptions& options);
}  // namespace unfused

}  // namespace megatron
