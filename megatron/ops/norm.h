// LayerNorm and RMSNorm over the last dimension, forward and backward fused. Statistics are
// computed in accumulation_dtype; the gradients of weight and bias are column sums in a fixed
// order.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// x [..., h], weight and bias [h] in x's dtype or its accumulation dtype -> [..., h] in x's dtype:
// (x - mean) / sqrt(variance + eps) * weight + bias.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

// x / sqrt(mean(x^2) + eps) * weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// The same functions composed of libtorch operators, for devices and dtypes without a kernel.
namespace unfused {
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
}  // namespace unfused

}  // namespace megatron
