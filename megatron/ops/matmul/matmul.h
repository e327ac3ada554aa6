// Matrix products in the operands' dtype, without autograd.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// left [m, k], right [k, n], bias [n] or undefined, of one floating dtype -> left right (+ bias)
// [m, n], summed in fp32 or wider. bf16 with many rows, on a CPU with bf16 instructions, runs on
// bf16_matmul; everything else on libtorch's GEMM, fp16 on a CPU widened to fp32. The result does not depend on the number of
// threads.
//
// `bias` has no default value: a call with two tensors would be ambiguous with at::matmul.
at::Tensor matmul(const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias);

// Writes to `out` [m, n]; rows of `out` may be strided.
void matmul_out(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                const at::Tensor& bias);

}  // namespace megatron
