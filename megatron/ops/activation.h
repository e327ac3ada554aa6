// The MLP's activations fused with the bias of the linear layer before them. Forward and backward
// are one pass each; only x and bias are saved, and backward gives the bias gradient too (a column
// sum in a fixed order).
//
// x [..., f] (or [..., 2f] for the gated ones: the gate's columns first, then the up-projection's),
// bias [last dimension of x] or undefined. dtypes fp32, fp64, bf16; computed in accumulation_dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/activation_kernels.h"

namespace megatron {

using kernels::GatedUnit;

// gelu(x + bias): exact (erf), or with the tanh approximation of Hendrycks and Gimpel (Megatron's
// bias_gelu_fusion).
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);

// max(x + bias, 0)^2 (Megatron's squared_relu).
at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias);

// x * sigmoid(1.702 x), the quick form of gelu.
at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias);

// The gated ones -> [..., f]: activation(gate) * up with silu, gelu or quick gelu; `unit` clamps
// both and adds an offset to up (GPT-OSS).
at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GatedUnit& unit = {});
at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GatedUnit& unit = {});
at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias,
                            const GatedUnit& unit = {});

namespace reference {
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);
at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GatedUnit& unit = {});
at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GatedUnit& unit = {});
at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias,
                            const GatedUnit& unit = {});
}  // namespace reference

}  // namespace megatron
