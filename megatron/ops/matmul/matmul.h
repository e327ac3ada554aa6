// Matrix products in the operands' dtype, without autograd.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// left [m, k], right [k, n], bias [n] or undefined, of one dtype -> left right (+ bias) [m, n],
// summed in fp32 or wider. bf16 with many rows, on a CPU with bf16 instructions, is multiplied in
// blocks on libtorch's micro-kernel, the right operand packed where it is used; all else is
// libtorch's GEMM. The bits do not depend on the number of threads.
at::Tensor matmul(const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias );

// The same into `out`, whose rows may be apart.
void matmul_out(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                  const at::Tensor& bias );

}  // namespace megatron
