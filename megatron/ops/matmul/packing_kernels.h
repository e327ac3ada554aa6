// Packs bf16 operands for block_gemm and writes out its fp32 blocks: kernels on plain pointers.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// A panel holds up to kPanelColumns columns of the right operand as [depth / 2, kPanelColumns, 2]:
// the elements of two consecutive rows are adjacent. `depth` is even; columns of the panel from
// `columns` on are not written.
inline constexpr int64_t kPanelColumns = 64;

// Packs `from` [depth, columns]; consecutive rows are `stride` elements apart.
template <KernelLevel level>
void pack_panel(int64_t depth, int64_t columns, const c10::BFloat16* from, int64_t stride,
                c10::BFloat16* to);

// Packs the transpose of `from` [columns, depth].
template <KernelLevel level>
void pack_panel_transposed(int64_t depth, int64_t columns, const c10::BFloat16* from,
                           int64_t stride, c10::BFloat16* to);

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows, j < columns.
template <KernelLevel level>
void transpose_bf16(int64_t rows, int64_t columns, const c10::BFloat16* from, int64_t from_stride,
                    c10::BFloat16* to, int64_t to_stride);

// to [rows, columns] = from (+ bias [columns], unless null), rounded to bf16.
template <KernelLevel level>
void store_bf16_block(int64_t rows, int64_t columns, const float* from, int64_t from_stride,
                      const c10::BFloat16* bias, c10::BFloat16* to, int64_t to_stride);

// sum[i] += values[i] in fp32.
template <KernelLevel level>
void add_bf16(int64_t count, const c10::BFloat16* values, float* sum);

}  // namespace megatron::kernels
