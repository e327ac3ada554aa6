// Matrix products of small blocks for the grouped products: kernels on plain pointers, T one of float,
// double, BFloat16, A its accumulation type.
//
// libtorch's brgemm, the building block of other operators, generates code for each shape and reads
// nothing ahead. Experts have any number of rows, and few rows make their weights' way from memory the
// bottleneck. So these kernels accept any shape, and while they multiply they prefetch what their
// caller needs next. With AMX, which they do not use, blocks of many rows go to brgemm.
#pragma once

#include <cstdint>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// The width of a packed panel, and the most columns of one tile.
inline constexpr int64_t kGroupedPanel = 64, kTileColumns = 32;

// Memory that will be read soon: `units` runs of `lines` cache lines (1, 2 or 4), `stride` bytes apart.
struct PrefetchRuns {
  const char* next = nullptr;
  int64_t stride = 0, units = 0;
  int lines = 1;
};

// A [m, depth]: element (i, d) is at data[i * row_stride + d * depth_stride]. bf16 is read in pairs of
// depth, which are adjacent: pair d is at data[i * row_stride + d * depth_stride].
template <typename T>
struct TileLeft {
  const T* data;
  int64_t row_stride, depth_stride;
};

// B [depth, n], n up to kTileColumns: row d is at data + d * stride. bf16: either packed, row d holds
// pairs (d, d + 1) of all columns for even d, [depth / 2][stride][2] with an even depth; or plain rows.
template <typename T>
struct TileRight {
  const T* data;
  int64_t stride;
  bool packed;
};

// C [m, n] = A B, or C += A B if `accumulate`; C is of type T or A. With an odd depth, A's pairs
// are not read beyond the last element, and B is plain or has a row of zeros at its end.
template <KernelLevel level, typename T, typename C>
void multiply_tiles(int64_t m, int64_t n, int64_t depth, const TileLeft<T>& left,
                    const TileRight<T>& right, C* c, int64_t c_stride, bool accumulate,
                    PrefetchRuns& prefetch);

// C [m, n] = X W^T with x [m, depth] and w [n, depth], both row-major: for few rows, where packing W
// would cost more than the product. Prefetches the rows of w that follow.
template <KernelLevel level, typename T>
void multiply_by_rows(int64_t m, int64_t n, int64_t depth, const T* x, int64_t x_stride, const T* w,
                      int64_t w_stride, lanes::accumulation_t<T>* c, int64_t c_stride);

// The number of rows of a register tile at this level.
template <KernelLevel level, typename T>
int64_t tile_rows();

}  // namespace megatron::kernels
