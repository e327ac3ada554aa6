// Which kernel multiplies blocks of many rows.
#pragma once

#include <type_traits>

#include <c10/util/BFloat16.h>

#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/grouped/grouped_product.h"
#include "megatron/ops/matmul/block_gemm.h"

namespace megatron::grouped {

inline bool has_amx_bf16() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("amx-bf16") != 0;
  return has;
#else
  return false;
#endif
}

// brgemm reaches the matrix unit; other units run at their full rate in tiles already.
template <typename T>
bool use_brgemm(BlockKernel kernel) {
  if (kernel != BlockKernel::automatic) return kernel == BlockKernel::brgemm;
  return std::is_same_v<T, c10::BFloat16> && has_amx_bf16() && has_fast_bf16_gemm();
}

// Packing kernels are compiled up to AVX-512; those of tiles for its bf16 instructions too.
constexpr KernelLevel packing_level(KernelLevel level) {
  return level == KernelLevel::avx512_bf16 ? KernelLevel::avx512 : level;
}

}  // namespace megatron::grouped
