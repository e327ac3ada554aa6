// The bf16 matrix product that matmul and matmul_accumulate share: right packed into panels of
// columns, block_gemm over blocks of rows, and an epilogue that stores the fp32 sums.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

enum class Bf16MatmulEpilogue {
  store_bf16,       // out [m, n] bf16 = left right (+ bias), rounded once
  accumulate_fp32,  // out [m, n] fp32 += left right, never rounded to bf16
};

// Whether bf16_matmul accepts these operands: bf16 matrices on a CPU with bf16 instructions, each
// row-major or column-major (rows or columns may be strided), k even and above 0.
bool can_use_bf16_matmul(const at::Tensor& left, const at::Tensor& right);

// left [m, k] and right [k, n] as above. Each row of out is contiguous; rows may be strided. bias [n]
// is contiguous or undefined, and for store_bf16 only. The result does not depend on the number of
// threads.
void bf16_matmul(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                 const at::Tensor& bias, Bf16MatmulEpilogue epilogue);

}  // namespace megatron
