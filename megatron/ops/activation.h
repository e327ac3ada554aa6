// The MLP's activation functions, fused with the bias of the linear layer before them. Forward and
// backward each make one pass over memory. Only x and bias are saved; backward also computes the
// bias gradient, as a column sum in a fixed order.
//
// x is [..., f], or [..., 2f] for gated linear units: the gate's columns, then the up-projection's.
// bias is [last dimension of x] or undefined. fp32, fp64 and bf16 run on CPU kernels that compute
// in accumulation_dtype; other dtypes and devices run the versions of `namespace unfused`.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/activation_kernels.h"

namespace megatron {

using kernels::GluOptions;

// gelu(x + bias): exact (erf), or the tanh approximation of Hendrycks and Gimpel (Megatron's
// bias_gelu_fusion).
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);

// max(x + bias, 0)^2 (Megatron's squared_relu).
at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias);

// y sigmoid(1.702 y) with y = x + bias (Megatron's quick_gelu).
at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias);

// Gated linear units -> [..., f]: activation(gate) * up with silu, gelu or quick_gelu.
at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu = {});
at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GluOptions& glu = {});
at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias,
                            const GluOptions& glu = {});

// Any of the functions above.
struct ActivationOptions {
  kernels::Activation function = kernels::Activation::gelu;
  std::optional<GluOptions> glu;  // set: gated
};

at::Tensor bias_activation(const at::Tensor& x, const at::Tensor& bias,
                           const ActivationOptions& options);

// bias_activation and its gradients without autograd, for operators that define their own backward.
// `again` also replaces grad_y by the output of forward, in the same pass: in its storage, if it is
// contiguous. grad_bias is undefined unless `needs_bias`.
struct ActivationGradients {
  at::Tensor x, bias;
};
at::Tensor bias_activation_forward(const at::Tensor& x, const at::Tensor& bias,
                                   const ActivationOptions& options);
ActivationGradients bias_activation_backward(at::Tensor& grad_y, const at::Tensor& x,
                                             const at::Tensor& bias,
                                             const ActivationOptions& options, bool needs_bias,
                                             bool again);

// The same functions composed of libtorch operators, which run on every device and dtype.
namespace unfused {
at::Tensor bias_activation(const at::Tensor& x, const at::Tensor& bias,
                           const ActivationOptions& options);
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);
at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu = {});
at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GluOptions& glu = {});
at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias,
                            const GluOptions& glu = {});
}  // namespace unfused

}  // namespace megatron
