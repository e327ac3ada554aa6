// What block_gemm's bf16 operands are packed into, and what becomes of its fp32 blocks: plain
// pointers.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

namespace megatron::kernels {

// A panel holds up to kPanelColumns columns of a right operand, [depth / 2, kPanelColumns, 2]: two
// rows' elements side by side. `depth` is even; columns beyond `columns` are not written.
inline constexpr int64_t kPanelColumns = 64;

// from [depth, columns], rows `stride` elements apart.
void pack_panel(int64_t depth, int64_t columns, const c10::BFloat16* from, int64_t stride,
                c10::BFloat16* to);

// from [columns, depth], the operand's transpose.
void pack_panel_transposed(int64_t depth, int64_t columns, const c10::BFloat16* from,
                           int64_t stride, c10::BFloat16* to);

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows, j < columns.
void transpose_bf16(int64_t rows, int64_t columns, const c10::BFloat16* from, int64_t from_stride,
                    c10::BFloat16* to, int64_t to_stride);

// to = from (+ bias [columns], or null) for [rows, columns].
void narrow_block(int64_t rows, int64_t columns, const float* from, int64_t from_stride,
                  const c10::BFloat16* bias, c10::BFloat16* to, int64_t to_stride);

// sum[i] += values[i] in fp32, in one pass and whatever the number of threads.
void add_bf16(int64_t count, const c10::BFloat16* values, float* sum);

}  // namespace megatron::kernels
