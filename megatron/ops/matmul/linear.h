// A linear layer whose weight gradient can go straight into the main gradient buffer (Megatron's
// gradient accumulation fusion).
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace megatron {

// x [..., in], weight [out, in], bias [out] or undefined -> [..., out] = x weight^T (+ bias).
//
// Backward: where `weight_main_grad` ([out, in], contiguous, weight's dtype or wider) is defined,
// dY^T X is added into it and the weight gets no gradient of its own; else the weight's gradient is
// returned. The bias gradient is a column sum in a fixed order. A weight that requires no gradient
// costs no product, and x is not kept.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  const at::Tensor& weight_main_grad);

// `main_grad` as linear() wants it for this weight, without its graph; nothing where it is
// undefined. Throws Error for another shape, dtype or layout.
std::optional<at::Tensor> checked_main_grad(const at::Tensor& weight, const at::Tensor& main_grad);

// The pieces of linear() without autograd, for layers with a backward of their own (overlapped
// communication, say): x weight^T (+ bias), and grad_output [..., out] weight -> [..., in].
at::Tensor linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_input_gradient(const at::Tensor& grad_output, const at::Tensor& weight);

// main_grad [out, in] += grad_output^T x, for grad_output [..., out] and x [..., in].
void accumulate_weight_gradient(at::Tensor& main_grad, const at::Tensor& grad_output,
                                const at::Tensor& x);

// Sum over all but the last dimension, in a fixed order whatever the number of threads, accumulated
// in accumulation_dtype: x [..., h] -> [h] in x's dtype.
at::Tensor column_sum(const at::Tensor& x);

}  // namespace megatron
