// The MLP's activations fused with the bias of the linear layer before them. Forward and backward
// are one pass each; only x and bias are saved, and backward gives the bias gradient too (a column
// sum in a fixed order).
//
// x [..., f] (or [..., 2f] for the gated ones: the gate's columns first, then the up-projection's),
// bias [last dimension of x] or undefined. dtypes fp32, fp64, bf16; computed in accumulation_dtype.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// gelu(x + bias): exact (erf), or with the tanh approximation of Hendrycks and Gimpel (Megatron's
// bias_gelu_fusion).
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);

// max(x + bias, 0)^2 (Megatron's squared_relu).
at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias);

// silu(gate) * up -> [..., f].
at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias);

// gelu(gate) * up -> [..., f].
at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);

namespace reference {
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);
at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form);
}  // namespace reference

}  // namespace megatron
