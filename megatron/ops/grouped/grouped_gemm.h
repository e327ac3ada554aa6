// Matrix products of all experts of a rank in one call, without autograd.
//
// Shapes: t rows, sorted by expert; e experts; each expert's weight is [n, k]. `counts` [e] holds the
// number of rows of each expert (contiguous int64 on the CPU); experts may have none. All floating
// tensors have one dtype. Sums are taken in fp32 or wider and rounded once. No result depends on the
// number of threads or on their timing.
//
// On a CPU, fp32, fp64 and bf16 run on kernels of this project: one list of tasks over (expert,
// rows, columns), from which threads take the next when they are free. Other dtypes run one libtorch
// product per expert. On a GPU, bf16 runs on libtorch's grouped matrix product, where the widths and
// strides suit it.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// x [t, k], weight [e, n, k], bias [e, n] or undefined -> [t, n]: row r of expert i is
// x_r weight_i^T (+ bias_i).
at::Tensor grouped_gemm(const at::Tensor& x, const at::Tensor& counts, const at::Tensor& weight,
                        const at::Tensor& bias);

// grad_y [t, n], weight [e, n, k] -> [t, k]: row r of expert i is grad_y_r weight_i.
at::Tensor grouped_gemm_input_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                       const at::Tensor& weight);

// grad_weight [e, n, k], contiguous: grad_weight_i += grad_y_i^T x_i over the rows of expert i, with
// grad_y [t, n] and x [t, k] of one dtype and grad_weight of that dtype or wider.
void accumulate_grouped_weight_gradient(at::Tensor& grad_weight, const at::Tensor& grad_y,
                                        const at::Tensor& x, const at::Tensor& counts);

// The weight gradient itself, [e, n, k] in x's dtype; 0 for experts without rows.
at::Tensor grouped_weight_gradient(const at::Tensor& grad_y, const at::Tensor& x,
                                   const at::Tensor& counts);

// grad_y [t, n] -> [e, n]: the sum of each expert's rows, in grad_y's dtype. With `row_weights` [t]
// (any floating dtype), rows are multiplied by them.
at::Tensor grouped_bias_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                 const at::Tensor& row_weights = {});

// The same functions composed of one libtorch product per expert, for every device and dtype.
namespace unfused {
at::Tensor grouped_gemm(const at::Tensor& x, const at::Tensor& counts, const at::Tensor& weight,
                        const at::Tensor& bias);
at::Tensor grouped_gemm_input_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                       const at::Tensor& weight);
void accumulate_grouped_weight_gradient(at::Tensor& grad_weight, const at::Tensor& grad_y,
                                        const at::Tensor& x, const at::Tensor& counts);
at::Tensor grouped_bias_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                 const at::Tensor& row_weights);
}  // namespace unfused

}  // namespace megatron
