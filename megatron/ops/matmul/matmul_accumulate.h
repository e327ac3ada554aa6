// Products of bf16 matrices summed in fp32: libtorch's GEMMs round their result to bf16.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// sum += left right, for left [m, k] and right [k, n] of one floating dtype and sum [m, n] of that
// dtype or a wider one. bf16 into a contiguous fp32 sum on a CPU with bf16 instructions adds up in
// fp32 throughout; elsewhere the product is rounded to the operands' dtype before it is added. The
// bits do not depend on the number of threads.
void matmul_accumulate(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right);

}  // namespace megatron
