// Packing of the operands of multiply_tiles and the store of its sums: kernels on plain pointers, T one
// of float, double, BFloat16.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/grouped/tile_kernels.h"

namespace megatron::kernels {

// Packs w [n, depth] as n columns of a panel, a right operand of multiply_tiles: [depth][kGroupedPanel],
// for bf16 [ceil(depth / 2)][kGroupedPanel][2] with 0 for the missing half of an odd depth. `to` is the
// place of the first column.
template <KernelLevel level, typename T>
void pack_rows_as_panel(int64_t n, int64_t depth, const T* w, int64_t w_stride, T* to);

// Packs w [depth, n] in the same way.
template <KernelLevel level, typename T>
void pack_columns_as_panel(int64_t n, int64_t depth, const T* w, int64_t w_stride, T* to);

// Packs columns of y [rows, n] as left operands of multiply_tiles, transposed: for each tile of `tile`
// columns (12, 6, 3 or 1) [rows][tile], for bf16 [ceil(rows / 2)][tile][2]. Columns from n on become 0.
template <KernelLevel level, typename T>
void pack_transposed_tiles(int64_t rows, int64_t n, int64_t tile, const T* y, int64_t y_stride,
                           T* to);

// to [rows, columns] = sums (+ bias [columns], unless null, times the weight of the row, unless null).
template <KernelLevel level, typename T>
void store_sums(int64_t rows, int64_t columns, const lanes::accumulation_t<T>* sums,
                int64_t sums_stride, const T* bias, const lanes::accumulation_t<T>* row_weights,
                T* to, int64_t to_stride);

// sums [columns] = the sum of rows of x [rows, columns], in order, times their weights, unless null.
template <KernelLevel level, typename T>
void sum_weighted_rows(int64_t rows, int64_t columns, const T* x, int64_t x_stride,
                       const lanes::accumulation_t<T>* weights, lanes::accumulation_t<T>* sums);

}  // namespace megatron::kernels
