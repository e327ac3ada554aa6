// Column sums over blocks of rows that depend on the shape only, so that the result is the same for
// any number of threads. Kernels that already hold the rows write the blocks' partial sums
// themselves.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

struct RowBlocks {
  int64_t rows = 0;
  int64_t rows_per_block = 1;
  int64_t count = 0;
};

// At most 64 blocks, of 16 rows or more.
inline RowBlocks row_blocks(int64_t rows) {
  const int64_t rows_per_block = std::max<int64_t>(16, (rows + 63) / 64);
  return {rows, rows_per_block, (rows + rows_per_block - 1) / rows_per_block};
}

// [blocks.count, columns] of accumulation_dtype(x), not initialised.
at::Tensor make_partial_sums(const RowBlocks& blocks, int64_t columns, const at::Tensor& x);

// Sums the partial sums in order -> [columns] of `dtype`.
at::Tensor reduce_partial_sums(const at::Tensor& partials, at::ScalarType dtype);

namespace kernels {
// partials [blocks.count, columns] <- sums of x [rows, columns] over each block of rows.
template <typename T, typename A>
void partial_column_sums(const T* x, int64_t columns, const RowBlocks& blocks, A* partials);
// out [columns] <- sum over blocks in order.
template <typename A>
void sum_partials(const A* partials, int64_t count, int64_t columns, A* out);
}  // namespace kernels

}  // namespace megatron
