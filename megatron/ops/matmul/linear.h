// A linear layer whose weight gradient can be accumulated into the main gradient buffer (Megatron's
// gradient accumulation fusion).
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace megatron {

// x [..., in], weight [out, in], bias [out] or undefined -> [..., out] = x weight^T (+ bias).
//
// Backward adds grad_y^T x into `weight_main_grad` where that is defined ([out, in], contiguous,
// weight's dtype or wider), and the weight then gets no gradient of its own; otherwise it returns
// the weight gradient. The bias gradient is a column_sum. A weight that requires no gradient costs
// no matmul, and x is not saved.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  const at::Tensor& weight_main_grad);

// `main_grad` detached, or nullopt where it is undefined. Throws Error where linear() would not
// accept its shape, dtype or layout for this weight.
std::optional<at::Tensor> checked_main_grad(const at::Tensor& weight, const at::Tensor& main_grad);

// The steps of linear() without autograd, for layers that define their own backward:
// x weight^T (+ bias), and grad_output [..., out] weight -> [..., in].
at::Tensor linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_input_gradient(const at::Tensor& grad_output, const at::Tensor& weight);

// main_grad [out, in] += grad_output^T x, with grad_output [..., out] and x [..., in].
void accumulate_weight_gradient(at::Tensor& main_grad, const at::Tensor& grad_output,
                                const at::Tensor& x);

}  // namespace megatron
