// Dropout on a CUDA device, from tensors to the kernel. Only in builds with MEGATRON_CUDA.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/random/dropout_kernels.h"

namespace megatron {

// residual + dropout(x + bias), x contiguous on a CUDA device, bias and residual contiguous or
// undefined; `rows` holds host pointers.
at::Tensor dropout_on_device(const kernels::DropoutRows& rows, const at::Tensor& x,
                             const at::Tensor& bias, const at::Tensor& residual);

}  // namespace megatron
