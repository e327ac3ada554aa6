// The column sum kernels' interface: plain pointers, T one of float, double, BFloat16, A its
// accumulation type.
#pragma once

#include <algorithm>
#include <cstdint>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron {

// The blocks of rows whose sums are added up in order. They depend on the number of rows only.
struct RowBlocks {
  int64_t rows = 0;
  int64_t rows_per_block = 1;
  int64_t count = 0;
};

// At most 64 blocks of at least 16 rows.
inline RowBlocks row_blocks(int64_t rows) {
  const int64_t rows_per_block = std::max<int64_t>(16, ceil_div(rows, 64));
  return {rows, rows_per_block, ceil_div(rows, rows_per_block)};
}

namespace kernels {

// partials [blocks.count, columns] = sums of x [rows, columns] over each block of rows.
template <KernelLevel level, typename T, typename A>
void partial_column_sums(const T* x, int64_t columns, const RowBlocks& blocks, A* partials);

// out [columns] = sum of partials [count, columns] over blocks, in order.
template <KernelLevel level, typename A>
void sum_partials(const A* partials, int64_t count, int64_t columns, A* out);

}  // namespace kernels

}  // namespace megatron
