// The CPU implementation of the grouped products: fp32, fp64 and bf16 on contiguous CPU tensors, without
// checks. Every element of a result is computed by one task in an order that depends on the shapes and
// the expert's number of rows alone.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/activation.h"
#include "megatron/ops/grouped/expert_rows.h"

namespace megatron::grouped {

// What multiplies blocks of many rows. `automatic`: brgemm for bf16 with AMX, otherwise tiles.
enum class BlockKernel { automatic, tiles, brgemm };

// out [t, n] = x [t, k] weight_i^T + bias_i [e, n], or times row_weights [t] (of accumulation_dtype).
// bias and row_weights may be undefined.
void multiply(const at::Tensor& out, const at::Tensor& x, const ExpertRows& rows,
              const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& row_weights,
              BlockKernel kernel = BlockKernel::automatic);

// hidden [t, w] = x weight_i^T + bias_i, and output [t, f] = its activation times probs [t] (of
// accumulation_dtype, or undefined).
void multiply_and_activate(const at::Tensor& hidden, const at::Tensor& output, const at::Tensor& x,
                           const ExpertRows& rows, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& probs, const ActivationOptions& activation);

// out [t, k] = grad_y [t, n] weight_i.
void input_gradient(const at::Tensor& out, const at::Tensor& grad_y, const ExpertRows& rows,
                    const at::Tensor& weight, BlockKernel kernel = BlockKernel::automatic);

// With g = grad_y [t, h] weight_i [h, f], the gradient of the activation's output: grad_hidden [t, w]
// is that of `hidden`; output [t, f], unless undefined, is the activation's output again; and
// grad_probs [t] (of accumulation_dtype), unless undefined, is the gradient of probs.
void input_gradient_and_activation(const at::Tensor& grad_hidden, const at::Tensor& output,
                                   const at::Tensor& grad_probs, const at::Tensor& grad_y,
                                   const ExpertRows& rows, const at::Tensor& weight,
                                   const at::Tensor& hidden, const at::Tensor& probs,
                                   const ActivationOptions& activation);

// grad_weight_i [n, k] = or, if `accumulate`, += grad_y_i^T x_i; of x's dtype or accumulation_dtype.
void weight_gradient(const at::Tensor& grad_weight, const at::Tensor& grad_y, const at::Tensor& x,
                     const ExpertRows& rows, bool accumulate,
                     BlockKernel kernel = BlockKernel::automatic);

// out_i [n] = the sum of rows of grad_y_i, times row_weights [t] (of accumulation_dtype) unless
// undefined.
void bias_gradient(const at::Tensor& out, const at::Tensor& grad_y, const ExpertRows& rows,
                   const at::Tensor& row_weights);

}  // namespace megatron::grouped
