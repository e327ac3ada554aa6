// A norm fused with the linear layer that consumes it: y = norm(x) weight^T (+ bias). Backward needs
// x and the statistics of its rows only; the normalised activations are computed again.
//
// norm_linear() is the operator of one rank, with autograd. The other functions are its steps,
// without autograd, for layers that communicate between them.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

struct NormLinearOptions {
  bool rms = false;  // RMSNorm, which has no bias; else LayerNorm
  double epsilon = 1e-5;
  bool zero_centered = false;  // scales by 1 + weight (layernorm_zero_centered_gamma)
};

// Of the rows of x, [rows] in accumulation_dtype(x): the mean (undefined with rms), and
// 1 / sqrt(variance + epsilon), or of the mean square.
struct RowStatistics {
  at::Tensor mean, rstd;
};

struct NormalizedRows {
  at::Tensor normed;  // x's shape, norm_weight's dtype
  RowStatistics statistics;
};

// x [..., h] in norm_weight's dtype or wider; norm_weight [h]; norm_bias [h], undefined with rms.
// Throws Error for other arguments.
NormalizedRows normalize_rows(const at::Tensor& x, const at::Tensor& norm_weight,
                              const at::Tensor& norm_bias, const NormLinearOptions& options);

// `normed` of normalize_rows again, from its statistics.
at::Tensor normalize_rows_again(const at::Tensor& x, const at::Tensor& norm_weight,
                                const at::Tensor& norm_bias, const RowStatistics& statistics,
                                const NormLinearOptions& options);

struct NormGradients {
  at::Tensor x, weight, bias;  // bias is undefined with rms
};

// The gradients for that of `normed`.
NormGradients normalize_rows_backward(const at::Tensor& grad_normed, const at::Tensor& x,
                                      const at::Tensor& norm_weight,
                                      const RowStatistics& statistics,
                                      const NormLinearOptions& options);

// The same, and replaces grad_normed by `normed` in the same pass: its storage if it is contiguous
// and x has its dtype, else a new tensor.
NormGradients normalize_rows_backward_and_again(at::Tensor& grad_normed, const at::Tensor& x,
                                                const at::Tensor& norm_weight,
                                                const at::Tensor& norm_bias,
                                                const RowStatistics& statistics,
                                                const NormLinearOptions& options);

struct NormLinearResult {
  at::Tensor output;  // [..., out]
  RowStatistics statistics;
};

// weight [out, h] and bias [out] (or undefined) of norm_weight's dtype. Normalises and multiplies a
// block of rows at a time, so that no normalised activations of all rows exist.
NormLinearResult norm_linear_forward(const at::Tensor& x, const at::Tensor& norm_weight,
                                     const at::Tensor& norm_bias, const at::Tensor& weight,
                                     const at::Tensor& bias, const NormLinearOptions& options);

// norm_linear_forward with autograd. `weight_main_grad` as in linear().
at::Tensor norm_linear(const at::Tensor& x, const at::Tensor& norm_weight,
                       const at::Tensor& norm_bias, const at::Tensor& weight,
                       const at::Tensor& bias, const at::Tensor& weight_main_grad,
                       const NormLinearOptions& options);

// The norm composed of libtorch operators.
namespace unfused {
at::Tensor normalize_rows(const at::Tensor& x, const at::Tensor& norm_weight,
                          const at::Tensor& norm_bias, const NormLinearOptions& options);
}  // namespace unfused

}  // namespace megatron
