// Packing of bf16 matrices for a matrix product's micro-kernel, and the sum of products where there
// is none: plain pointers.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

namespace megatron::kernels {

// sum[i] += values[i] in fp32, in one pass and whatever the number of threads.
void add_bf16(int64_t count, const c10::BFloat16* values, float* sum);

// Columns of a panel of packed rows.
inline constexpr int64_t kPanelColumns = 64;

// from [rows, columns], rows even -> panels of kPanelColumns columns, each [rows / 2,
// kPanelColumns, 2]: two rows' elements side by side. The last panel's columns beyond the end are
// not written.
void pack_row_pairs(int64_t rows, int64_t columns, int64_t stride, const c10::BFloat16* from,
                    c10::BFloat16* to);

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows, j < columns.
void transpose_bf16(int64_t rows, int64_t columns, const c10::BFloat16* from, int64_t from_stride,
                    c10::BFloat16* to, int64_t to_stride);

}  // namespace megatron::kernels
