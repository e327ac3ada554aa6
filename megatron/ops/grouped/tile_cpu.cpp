// Matrix products of small blocks for the grouped products: CPU kernels.
#include <algorithm>
#include <utility>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/grouped/tile_kernels.h"

namespace megatron::kernels {

namespace {

using lanes::Floats;
using lanes::HalfWords;
using lanes::Words;

template <typename T>
inline constexpr bool kInPairs = std::is_same_v<T, c10::BFloat16>;

template <typename T>
inline constexpr int kTileVectors = kTileColumns / lanes::width<T>;

// As many rows as the registers hold: 32 of 64 bytes with AVX-512, 16 of 32 bytes with AVX2.
template <typename T>
inline constexpr int kTileRows = kKernelLevel == KernelLevel::avx2
                                     ? (std::is_same_v<T, double> ? 1 : 3)
                                     : (std::is_same_v<T, double> ? 6 : 12);

template <typename Body, int... i>
MEGATRON_INLINE void unroll(const Body& body, std::integer_sequence<int, i...>) {
  (body(std::integral_constant<int, i>()), ...);
}

// body(0) to body(count - 1), unrolled, so that arrays indexed by it stay in registers.
template <int count, typename Body>
MEGATRON_INLINE void unrolled(const Body& body) {
  unroll(body, std::make_integer_sequence<int, count>());
}

// Into the second-level cache: a panel is larger than the first.
MEGATRON_INLINE void prefetch_line(const void* from) {
  __builtin_prefetch(from, 0, 2);
}

MEGATRON_INLINE void prefetch_some(PrefetchRuns& prefetch) {
  if (prefetch.units <= 0) return;
  prefetch_line(prefetch.next);
  if (prefetch.lines > 1) prefetch_line(prefetch.next + 64);
  if (prefetch.lines > 2) {
    prefetch_line(prefetch.next + 128);
    prefetch_line(prefetch.next + 192);
  }
  prefetch.next += prefetch.stride;
  --prefetch.units;
}

// sum += the products of pairs of bf16.
MEGATRON_INLINE Floats multiply_pairs(Floats sum, Words a, Words b) {
#if defined(__AVX512BF16__)
  return std::bit_cast<Floats>(_mm512_dpbf16_ps(
      std::bit_cast<__m512>(sum), std::bit_cast<__m512bh>(a), std::bit_cast<__m512bh>(b)));
#else
  sum += std::bit_cast<Floats>(a << 16) * std::bit_cast<Floats>(b << 16);
  return sum + std::bit_cast<Floats>(a & 0xFFFF0000u) * std::bit_cast<Floats>(b & 0xFFFF0000u);
#endif
}

using Halves = uint16_t __attribute__((vector_size(64)));

// 32 columns of rows d and d + 1 as pairs, in the order of the unpack instructions: `low` holds columns
// 0-3, 8-11, 16-19 and 24-27, `high` the others.
MEGATRON_INLINE void interleave_rows(const c10::BFloat16* row, const c10::BFloat16* next_row,
                                     Words& low, Words& high) {
  Halves even, odd{};
  std::memcpy(&even, row, sizeof(even));
  if (next_row != nullptr) std::memcpy(&odd, next_row, sizeof(odd));
  low = std::bit_cast<Words>(__builtin_shufflevector(even, odd, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40,
                                                     9, 41, 10, 42, 11, 43, 16, 48, 17, 49, 18, 50,
                                                     19, 51, 24, 56, 25, 57, 26, 58, 27, 59));
  high = std::bit_cast<Words>(__builtin_shufflevector(even, odd, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44,
                                                      13, 45, 14, 46, 15, 47, 20, 52, 21, 53, 22,
                                                      54, 23, 55, 28, 60, 29, 61, 30, 62, 31, 63));
}

// Puts the columns of interleave_rows in order.
MEGATRON_INLINE void order_columns(Floats& low, Floats& high) {
  const Floats first =
      __builtin_shufflevector(low, high, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  high = __builtin_shufflevector(low, high, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29,
                                 30, 31);
  low = first;
}

MEGATRON_INLINE uint32_t load_pair(const c10::BFloat16* from) {
  uint32_t pair;
  std::memcpy(&pair, from, sizeof(pair));
  return pair;
}

// One register tile. B's rows may be read up to kTileColumns.
template <typename T, int rows, bool packed, typename C>
MEGATRON_INLINE void tile(int64_t n, int64_t depth, const T* a, int64_t row_stride,
                          int64_t depth_stride, const T* b, int64_t b_stride, C* c,
                          int64_t c_stride, bool accumulate, PrefetchRuns& prefetch) {
  constexpr int vectors = kTileVectors<T>, width = lanes::width<T>;
  lanes::Vector<T> sums[rows][vectors] = {};
  PrefetchRuns ahead = prefetch;  // in registers
  if constexpr (kInPairs<T>) {
    const int64_t pairs = depth / 2;
    for (int64_t d = 0; d < pairs; ++d) {
      Words low, high;
      if constexpr (packed) {
        std::memcpy(&low, b + d * 2 * b_stride, sizeof(low));
        std::memcpy(&high, b + d * 2 * b_stride + 2 * width, sizeof(high));
      } else {
        interleave_rows(b + 2 * d * b_stride, b + (2 * d + 1) * b_stride, low, high);
      }
      const T* from = a + d * depth_stride;
      for (int i = 0; i < rows; ++i) {
        const Words pair = Words{} + load_pair(from + i * row_stride);
        sums[i][0] = multiply_pairs(sums[i][0], pair, low);
        sums[i][1] = multiply_pairs(sums[i][1], pair, high);
      }
      prefetch_some(ahead);
    }
    if (depth % 2 != 0) {
      Words low, high;
      if constexpr (packed) {
        std::memcpy(&low, b + pairs * 2 * b_stride, sizeof(low));
        std::memcpy(&high, b + pairs * 2 * b_stride + 2 * width, sizeof(high));
      } else {
        interleave_rows(b + 2 * pairs * b_stride, nullptr, low, high);
      }
      const T* from = a + pairs * depth_stride;
      for (int i = 0; i < rows; ++i) {
        const Words pair = Words{} + static_cast<uint32_t>(from[i * row_stride].x);
        sums[i][0] = multiply_pairs(sums[i][0], pair, low);
        sums[i][1] = multiply_pairs(sums[i][1], pair, high);
      }
    }
  } else {
    for (int64_t d = 0; d < depth; ++d) {
      lanes::Vector<T> row[vectors];
      for (int j = 0; j < vectors; ++j) row[j] = lanes::load<T>(b + d * b_stride + j * width);
      const T* from = a + d * depth_stride;
      for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < vectors; ++j) sums[i][j] += row[j] * from[i * row_stride];
      }
      prefetch_some(ahead);
    }
  }
  while (ahead.units > 0 && ahead.units <= rows) prefetch_some(ahead);  // more than depth steps
  prefetch = ahead;
  if constexpr (kInPairs<T> && !packed) {
    unrolled<rows>([&](auto i) { order_columns(sums[i][0], sums[i][1]); });
  }
  if (n == kTileColumns) {
    unrolled<rows * vectors>([&](auto index) {
      constexpr int i = index / vectors, j = index % vectors;
      C* to = c + i * c_stride + j * width;
      auto sum = sums[i][j];
      if (accumulate) sum += lanes::load<C>(to);
      lanes::store<C>(to, sum);
    });
    return;
  }
  lanes::accumulation_t<T> buffer[rows][kTileColumns];
  unrolled<rows * vectors>([&](auto index) {
    constexpr int i = index / vectors, j = index % vectors;
    lanes::store(&buffer[i][j * width], sums[i][j]);
  });
  for (int i = 0; i < rows; ++i) {
    C* to = c + i * c_stride;
    for (int64_t j = 0; j < n; ++j) {
      to[j] = static_cast<C>(accumulate ? buffer[i][j] + to[j] : buffer[i][j]);
    }
  }
}

template <typename T, int rows, typename C>
void row_tile(int64_t n, int64_t depth, const TileLeft<T>& left, int64_t row,
              const TileRight<T>& right, C* c, int64_t c_stride, bool accumulate,
              PrefetchRuns& prefetch) {
  const T* a = left.data + row * left.row_stride;
  if (right.packed) {
    tile<T, rows, true>(n, depth, a, left.row_stride, left.depth_stride, right.data, right.stride,
                        c + row * c_stride, c_stride, accumulate, prefetch);
  } else {
    tile<T, rows, false>(n, depth, a, left.row_stride, left.depth_stride, right.data, right.stride,
                         c + row * c_stride, c_stride, accumulate, prefetch);
  }
}

// Lane l of the result is a[l] + a[l ^ distance] where l lacks the bit, and of b where it has it.
template <int distance, int... l>
MEGATRON_INLINE Floats combine(Floats a, Floats b, std::integer_sequence<int, l...>) {
  return __builtin_shufflevector(a, b, ((l & distance) ? l + 16 : l)...) +
         __builtin_shufflevector(a, b, ((l & distance) ? (l ^ distance) + 16 : (l ^ distance))...);
}

// Lane l of the result is the sum of v[l]'s lanes.
MEGATRON_INLINE Floats sum_each(Floats (&v)[16]) {
  constexpr std::make_integer_sequence<int, 16> lane;
  for (int i = 0; i < 8; ++i) v[i] = combine<8>(v[i], v[i + 8], lane);
  for (int i = 0; i < 4; ++i) v[i] = combine<4>(v[i], v[i + 4], lane);
  for (int i = 0; i < 2; ++i) v[i] = combine<2>(v[i], v[i + 2], lane);
  return combine<1>(v[0], v[1], lane);
}

// 64 bytes of a row; elements from `count` on are 0.
template <typename T>
MEGATRON_INLINE auto load_line(const T* from, int64_t count) {
  using V = std::conditional_t<kInPairs<T>, Words, lanes::Vector<T>>;
  V line{};
  std::memcpy(&line, from, static_cast<size_t>(count) * sizeof(T));
  return line;
}

template <typename T, typename V>
MEGATRON_INLINE lanes::Vector<T> multiply_lines(lanes::Vector<T> sum, V a, V b) {
  if constexpr (kInPairs<T>) {
    return multiply_pairs(sum, a, b);
  } else {
    return sum + a * b;
  }
}

// C [rows, columns]: dot products of `rows` rows of x and `columns` rows of w, each up to 4. Prefetches
// the first `ahead` rows from `next` on.
template <typename T, int rows, int columns, int ahead>
MEGATRON_INLINE void dot_tile(int64_t depth, const T* x, int64_t x_stride, const T* w,
                              int64_t w_stride, const T* next, lanes::accumulation_t<T>* c,
                              int64_t c_stride) {
  using A = lanes::accumulation_t<T>;
  constexpr int64_t line = 64 / sizeof(T);
  lanes::Vector<T> sums[rows * columns] = {};
  const auto step = [&](int64_t d, auto count) {
    decltype(load_line(w, count)) right[columns];
    for (int j = 0; j < columns; ++j) right[j] = load_line(w + j * w_stride + d, count);
    for (int j = 0; j < ahead; ++j) __builtin_prefetch(next + j * w_stride + d);
    for (int i = 0; i < rows; ++i) {
      const auto left = load_line(x + i * x_stride + d, count);
      for (int j = 0; j < columns; ++j) {
        sums[i * columns + j] = multiply_lines<T>(sums[i * columns + j], left, right[j]);
      }
    }
  };
  int64_t d = 0;
  for (; d + line <= depth; d += line) step(d, std::integral_constant<int64_t, line>());
  if (d < depth) step(d, depth - d);
  if constexpr (std::is_same_v<A, float> && columns == 4) {
    Floats all[16] = {};
    for (int i = 0; i < rows * columns; ++i) all[i] = sums[i];
    const Floats totals = sum_each(all);
    A buffer[16];
    std::memcpy(buffer, &totals, sizeof(buffer));
    for (int i = 0; i < rows; ++i) {
      std::memcpy(c + i * c_stride, buffer + i * columns, columns * sizeof(A));
    }
  } else {
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        c[i * c_stride + j] = lanes::sum_lanes(sums[i * columns + j]);
      }
    }
  }
}

template <typename T, int columns>
void dot_columns(int64_t m, int64_t depth, const T* x, int64_t x_stride, const T* w,
                 int64_t w_stride, lanes::accumulation_t<T>* c, int64_t c_stride) {
  const T* next = w + columns * w_stride;
  const auto run = [&]<int ahead>(std::integral_constant<int, ahead>, int64_t row) {
    const T* from = x + row * x_stride;
    auto* to = c + row * c_stride;
    switch (m - row) {
      case 1:
        dot_tile<T, 1, columns, ahead>(depth, from, x_stride, w, w_stride, next, to, c_stride);
        break;
      case 2:
        dot_tile<T, 2, columns, ahead>(depth, from, x_stride, w, w_stride, next, to, c_stride);
        break;
      case 3:
        dot_tile<T, 3, columns, ahead>(depth, from, x_stride, w, w_stride, next, to, c_stride);
        break;
      default:
        dot_tile<T, 4, columns, ahead>(depth, from, x_stride, w, w_stride, next, to, c_stride);
        break;
    }
    next += ahead * w_stride;
  };
  // The tiles share the prefetches of the next rows of w, so that these come at an even rate.
  int64_t row = 0;
  if constexpr (columns == 4) {
    if (m > 12) {
      for (; row < 16; row += 4) run(std::integral_constant<int, 1>(), row);
    } else if (m > 4) {
      for (; row < 8; row += 4) run(std::integral_constant<int, 2>(), row);
    } else {
      run(std::integral_constant<int, 4>(), row);
      row = 4;
    }
  }
  for (; row < m; row += 4) run(std::integral_constant<int, 0>(), row);
}

}  // namespace

template <KernelLevel level, typename T>
int64_t tile_rows() {
  return kTileRows<T>;
}

template <KernelLevel level, typename T, typename C>
void multiply_tiles(int64_t m, int64_t n, int64_t depth, const TileLeft<T>& left,
                    const TileRight<T>& right, C* c, int64_t c_stride, bool accumulate,
                    PrefetchRuns& prefetch) {
  constexpr int most = kTileRows<T>;
  int64_t row = 0;
  const auto run = [&]<int rows>(std::integral_constant<int, rows>, int64_t least) {
    for (; row + least <= m; row += rows) {
      row_tile<T, rows>(n, depth, left, row, right, c, c_stride, accumulate, prefetch);
    }
  };
  // 13 to 16 rows are two tiles of up to 8: small tiles use the registers badly.
  run(std::integral_constant<int, most>(), most == 12 ? 17 : most);
  if constexpr (most == 12) {
    if (m - row == 12) run(std::integral_constant<int, 12>(), 12);
    run(std::integral_constant<int, 8>(), 8);
  }
  if constexpr (most >= 6) run(std::integral_constant<int, 6>(), 6);
  if constexpr (most > 4) run(std::integral_constant<int, 4>(), 4);
  if constexpr (most > 2) run(std::integral_constant<int, 2>(), 2);
  run(std::integral_constant<int, 1>(), 1);
}

template <KernelLevel level, typename T>
void multiply_by_rows(int64_t m, int64_t n, int64_t depth, const T* x, int64_t x_stride, const T* w,
                      int64_t w_stride, lanes::accumulation_t<T>* c, int64_t c_stride) {
  if (m == 0) return;
  int64_t column = 0;
  for (; column + 4 <= n; column += 4) {
    dot_columns<T, 4>(m, depth, x, x_stride, w + column * w_stride, w_stride, c + column, c_stride);
  }
  for (; column < n; ++column) {
    dot_columns<T, 1>(m, depth, x, x_stride, w + column * w_stride, w_stride, c + column, c_stride);
  }
}

#define MEGATRON_INSTANTIATE_C(T, C)                                                              \
  template void multiply_tiles<kKernelLevel, T, C>(int64_t, int64_t, int64_t, const TileLeft<T>&, \
                                                   const TileRight<T>&, C*, int64_t, bool,        \
                                                   PrefetchRuns&);
#define MEGATRON_INSTANTIATE(T)                                                                 \
  template void multiply_by_rows<kKernelLevel, T>(int64_t, int64_t, int64_t, const T*, int64_t, \
                                                  const T*, int64_t, lanes::accumulation_t<T>*, \
                                                  int64_t);                                     \
  template int64_t tile_rows<kKernelLevel, T>();
MEGATRON_INSTANTIATE_C(float, float)
MEGATRON_INSTANTIATE_C(double, double)
MEGATRON_INSTANTIATE_C(c10::BFloat16, float)
MEGATRON_INSTANTIATE_C(c10::BFloat16, c10::BFloat16)
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE
#undef MEGATRON_INSTANTIATE_C

}  // namespace megatron::kernels
