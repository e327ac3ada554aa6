// The activation between an expert's two products, times the probabilities of its rows, without
// autograd: for devices and dtypes where it is not fused with the products.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/activation.h"

namespace megatron {

// hidden [t, w], w = 2f if gated, otherwise f; probs [t] or undefined -> [t, f]: p_r times the
// activation of row r, computed in accumulation_dtype and rounded once to hidden's dtype.
at::Tensor weighted_activation(const at::Tensor& hidden, const at::Tensor& probs,
                               const ActivationOptions& options);

struct WeightedActivationGradients {
  at::Tensor hidden;  // [t, w]
  at::Tensor probs;   // [t] in accumulation_dtype, undefined without probs
  at::Tensor output;  // [t, f]: weighted_activation again
};

WeightedActivationGradients weighted_activation_backward(const at::Tensor& grad_output,
                                                         const at::Tensor& hidden,
                                                         const at::Tensor& probs,
                                                         const ActivationOptions& options);

namespace unfused {
// Of differentiable libtorch operators.
at::Tensor weighted_activation(const at::Tensor& hidden, const at::Tensor& probs,
                               const ActivationOptions& options);
}  // namespace unfused

}  // namespace megatron
