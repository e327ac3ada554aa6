// Packing of bf16 matrices and their addition to fp32: CPU kernels.
#include <algorithm>

#include "megatron/ops/parallel_for.h"
#include "megatron/ops/vector_math.h"
#include "megatron/ops/wide_product_kernels.h"

namespace megatron::kernels {

namespace {

constexpr int kTile = 16;
using lanes::HalfWords;

MEGATRON_INLINE HalfWords interleave_low(HalfWords a, HalfWords b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

MEGATRON_INLINE HalfWords interleave_high(HalfWords a, HalfWords b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}

// Interleaving rows i and i + 8 rotates the four bits of the row number by one into those of the
// column: four times make the transpose.
void transpose_tile(const c10::BFloat16* from, int64_t from_stride, c10::BFloat16* to,
                    int64_t to_stride) {
  HalfWords rows[kTile], mixed[kTile];
  for (int i = 0; i < kTile; ++i) std::memcpy(&rows[i], from + i * from_stride, sizeof(HalfWords));
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kTile / 2; ++i) {
      mixed[2 * i] = interleave_low(rows[i], rows[i + kTile / 2]);
      mixed[2 * i + 1] = interleave_high(rows[i], rows[i + kTile / 2]);
    }
    for (int i = 0; i < kTile / 2; ++i) {
      rows[2 * i] = interleave_low(mixed[i], mixed[i + kTile / 2]);
      rows[2 * i + 1] = interleave_high(mixed[i], mixed[i + kTile / 2]);
    }
  }
  for (int i = 0; i < kTile; ++i) std::memcpy(to + i * to_stride, &rows[i], sizeof(HalfWords));
}

}  // namespace

void add_bf16(int64_t count, const c10::BFloat16* values, float* sum) {
  parallel_for(0, count, 32768, [&](int64_t first, int64_t last) {
    lanes::for_each_vector<float>(last - first, [&](int64_t i, auto size) {
      float* to = sum + first + i;
      lanes::store<float>(
          to, lanes::load<float>(to, size) + lanes::load<c10::BFloat16>(values + first + i, size),
          size);
    });
  });
}

void pack_row_pairs(int64_t rows, int64_t columns, int64_t stride, const c10::BFloat16* from,
                    c10::BFloat16* to) {
  parallel_for(0, rows / 2, row_grain(2 * columns), [&](int64_t first, int64_t last) {
    for (int64_t pair = first; pair < last; ++pair) {
      const c10::BFloat16 *even = from + 2 * pair * stride, *odd = even + stride;
      for (int64_t panel = 0; panel < columns; panel += kPanelColumns) {
        c10::BFloat16* out = to + panel * rows + pair * 2 * kPanelColumns;
        const int64_t count = std::min(kPanelColumns, columns - panel);
        for (int64_t i = 0; i < count; ++i) {
          out[2 * i] = even[panel + i];
          out[2 * i + 1] = odd[panel + i];
        }
      }
    }
  });
}

void transpose_bf16(int64_t rows, int64_t columns, const c10::BFloat16* from, int64_t from_stride,
                    c10::BFloat16* to, int64_t to_stride) {
  const int64_t whole_rows = rows / kTile * kTile, whole_columns = columns / kTile * kTile;
  for (int64_t i = 0; i < whole_rows; i += kTile) {
    for (int64_t j = 0; j < whole_columns; j += kTile) {
      transpose_tile(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

}  // namespace megatron::kernels
