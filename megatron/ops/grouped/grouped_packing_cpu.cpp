// Packing of the operands of multiply_tiles and the store of its sums: CPU kernels.
#include <algorithm>

#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/grouped/grouped_packing_kernels.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron::kernels {

namespace {

template <typename T>
inline constexpr bool kInPairs = std::is_same_v<T, c10::BFloat16>;

int64_t round_up_to(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Elements of two rows, or of one row and 0, side by side.
void interleave(const c10::BFloat16* even, const c10::BFloat16* odd, int64_t count,
                c10::BFloat16* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    lanes::HalfWords low, high{};
    std::memcpy(&low, even + i, sizeof(low));
    if (odd != nullptr) std::memcpy(&high, odd + i, sizeof(high));
    const lanes::Words words = __builtin_convertvector(low, lanes::Words) |
                               (__builtin_convertvector(high, lanes::Words) << 16);
    std::memcpy(to + 2 * i, &words, sizeof(words));
  }
  for (; i < count; ++i) {
    to[2 * i] = even[i];
    to[2 * i + 1] = odd == nullptr ? c10::BFloat16(0) : odd[i];
  }
}

// Copies runs of one tile each to their tiles. `size`: elements of a run, or 0 if it is not constant.
template <int64_t size, typename T>
void copy_tiles(int64_t columns, int64_t tile, int64_t tile_size, const T* from, T* to) {
  constexpr int64_t pair = kInPairs<T> ? 2 : 1;
  const int64_t run = size == 0 ? tile * pair : size;
  for (int64_t column = 0; column < columns; column += tile) {
    std::memcpy(to, from, run * sizeof(T));
    from += run;
    to += tile_size;
  }
}

}  // namespace

template <KernelLevel level, typename T>
void pack_rows_as_panel(int64_t n, int64_t depth, const T* w, int64_t w_stride, T* to) {
  constexpr int64_t pair = kInPairs<T> ? 2 : 1;
  if constexpr (std::is_same_v<T, double>) {
    for (int64_t column = 0; column < n; ++column) {
      for (int64_t d = 0; d < depth; ++d) to[d * kGroupedPanel + column] = w[column * w_stride + d];
    }
  } else {
    // fp32 elements are transposed as pairs of bf16 are: as words of 32 bits.
    constexpr int64_t halves = sizeof(T) / sizeof(c10::BFloat16);
    const int64_t even = depth / pair * pair;
    pack_panel_transposed<level>(even * halves, n, reinterpret_cast<const c10::BFloat16*>(w),
                                 w_stride * halves, reinterpret_cast<c10::BFloat16*>(to));
    if (even < depth) {
      T* last = to + even * kGroupedPanel;
      for (int64_t column = 0; column < n; ++column) {
        last[2 * column] = w[column * w_stride + even];
        last[2 * column + 1] = T(0);
      }
    }
  }
}

template <KernelLevel level, typename T>
void pack_columns_as_panel(int64_t n, int64_t depth, const T* w, int64_t w_stride, T* to) {
  if constexpr (kInPairs<T>) {
    const int64_t even = depth / 2 * 2;
    pack_panel<level>(even, n, w, w_stride, to);
    if (even < depth) {
      T* last = to + even * kGroupedPanel;
      for (int64_t column = 0; column < n; ++column) {
        last[2 * column] = w[even * w_stride + column];
        last[2 * column + 1] = T(0);
      }
    }
  } else {
    for (int64_t d = 0; d < depth; ++d) {
      std::copy(w + d * w_stride, w + d * w_stride + n, to + d * kGroupedPanel);
    }
  }
}

template <KernelLevel level, typename T>
void pack_transposed_tiles(int64_t rows, int64_t n, int64_t tile, const T* y, int64_t y_stride,
                           T* to) {
  constexpr int64_t pair = kInPairs<T> ? 2 : 1;
  const int64_t tile_size = (rows + pair - 1) / pair * pair * tile;
  for (int64_t row = 0; row < rows; row += pair) {
    // Some columns of the row, or of a pair of rows, at a time.
    constexpr int64_t most = 192;  // a multiple of every tile
    T pairs[most * pair];
    for (int64_t column = 0; column < n; column += most) {
      const int64_t columns = std::min(most, n - column);
      const T* from = y + row * y_stride + column;
      if constexpr (kInPairs<T>) {
        interleave(from, row + 1 < rows ? from + y_stride : nullptr, columns, pairs);
      } else {
        std::copy(from, from + columns, pairs);
      }
      std::fill(pairs + columns * pair, pairs + round_up_to(columns, tile) * pair, T(0));
      T* out = to + column / tile * tile_size + row * tile;
      if (tile == 12) {
        copy_tiles<12 * pair>(columns, tile, tile_size, pairs, out);
      } else {
        copy_tiles<0>(columns, tile, tile_size, pairs, out);
      }
    }
  }
}

template <KernelLevel level, typename T>
void store_sums(int64_t rows, int64_t columns, const lanes::accumulation_t<T>* sums,
                int64_t sums_stride, const T* bias, const lanes::accumulation_t<T>* row_weights,
                T* to, int64_t to_stride) {
  using A = lanes::accumulation_t<T>;
  for (int64_t row = 0; row < rows; ++row) {
    const A weight = row_weights == nullptr ? A(1) : row_weights[row];
    lanes::for_each_vector<T>(columns, [&](int64_t i, auto count) {
      auto sum = lanes::load<A>(sums + row * sums_stride + i, count);
      if (bias != nullptr) sum += lanes::load<T>(bias + i, count) * weight;
      lanes::store<T>(to + row * to_stride + i, sum, count);
    });
  }
}

template <KernelLevel level, typename T>
void sum_weighted_rows(int64_t rows, int64_t columns, const T* x, int64_t x_stride,
                       const lanes::accumulation_t<T>* weights, lanes::accumulation_t<T>* sums) {
  using A = lanes::accumulation_t<T>;
  lanes::for_each_vector<T>(columns, [&](int64_t i, auto count) {
    lanes::Vector<T> sum{};
    for (int64_t row = 0; row < rows; ++row) {
      const auto value = lanes::load<T>(x + row * x_stride + i, count);
      sum += weights == nullptr ? value : value * weights[row];
    }
    lanes::store<A>(sums + i, sum, count);
  });
}

#define MEGATRON_INSTANTIATE(T)                                                                  \
  template void pack_rows_as_panel<kKernelLevel, T>(int64_t, int64_t, const T*, int64_t, T*);    \
  template void pack_columns_as_panel<kKernelLevel, T>(int64_t, int64_t, const T*, int64_t, T*); \
  template void pack_transposed_tiles<kKernelLevel, T>(int64_t, int64_t, int64_t, const T*,      \
                                                       int64_t, T*);                             \
  template void store_sums<kKernelLevel, T>(int64_t, int64_t, const lanes::accumulation_t<T>*,   \
                                            int64_t, const T*, const lanes::accumulation_t<T>*,  \
                                            T*, int64_t);                                        \
  template void sum_weighted_rows<kKernelLevel, T>(int64_t, int64_t, const T*, int64_t,          \
                                                   const lanes::accumulation_t<T>*,              \
                                                   lanes::accumulation_t<T>*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
