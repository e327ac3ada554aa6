// LayerNorm and RMSNorm over the last dimension, forward and backward fused. Statistics are kept in
// accumulation_dtype; the gradients of weight and bias are column sums in a fixed order.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// x [..., h] of any leading shape, weight and bias [h] of x's dtype or of its accumulation dtype ->
// [..., h] in x's dtype: (x - mean) / sqrt(variance + eps) * weight + bias.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

// x / sqrt(mean(x^2) + eps) * weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

namespace reference {
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
}  // namespace reference

}  // namespace megatron
