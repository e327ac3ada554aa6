// One linear layer per expert, all experts of a rank in one call, with autograd.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// x [t, k] with rows sorted by expert, counts [e] (contiguous int64 on the CPU, adding up to t),
// weight [e, n, k], bias [e, n] or undefined -> [t, n]: row r of expert i is x_r weight_i^T
// (+ bias_i). Shapes and dtypes as in grouped_gemm.h.
//
// Backward adds the weight gradient into `weight_main_grad` where that is defined ([e, n, k],
// contiguous, weight's dtype or wider), and the weight then gets no gradient of its own; otherwise
// it returns the weight gradient. A weight that requires no gradient costs no product, and x is then
// not saved.
at::Tensor grouped_linear(const at::Tensor& x, const at::Tensor& counts, const at::Tensor& weight,
                          const at::Tensor& bias, const at::Tensor& weight_main_grad);

}  // namespace megatron
