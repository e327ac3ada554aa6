// Matrix products added into a sum that may be wider than the operands.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// sum += left right, with left [m, k] and right [k, n] of one floating dtype, sum [m, n] of that
// dtype or a wider one. bf16 into a contiguous fp32 sum, on a CPU with bf16 instructions, is
// accumulated in fp32 throughout (bf16_matmul). Otherwise libtorch's GEMM rounds left right to the
// operands' dtype before it is added. The result does not depend on the number of threads.
void matmul_accumulate(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right);

}  // namespace megatron
