// Packs rows of fused attention's operands for block_gemm, and stores its own results in packed
// form. Only kernel files (*_cpu.cpp) include it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "megatron/ops/core/vector_math.h"

namespace megatron::kernels {
inline namespace MEGATRON_KERNEL_LEVEL {

// Copies rows as block_gemm's A, [padded_rows][padded], zero-padded.
template <typename T>
void copy_rows(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
               int64_t padded_rows, int64_t padded) {
  for (int64_t i = 0; i < padded_rows; ++i) {
    T* row = to + i * padded;
    const int64_t filled = i < rows ? width : 0;
    if (filled > 0) std::memcpy(row, from + i * stride, filled * sizeof(T));
    if (filled < padded) std::memset(row + filled, 0, (padded - filled) * sizeof(T));
  }
}

// One round of transposing 16 rows of 16 words in registers; the rounds swap blocks of 8, 4, 2, 1.
template <int distance>
MEGATRON_INLINE void swap_blocks(lanes::Words (&tile)[16]) {
  constexpr lanes::Ints ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // Lanes with the bit `distance` come from the pair's other row; indices from 16 on select from b.
  const lanes::Ints odd = (ramp & distance) != 0;
  const lanes::Ints into_a = odd ? ramp + (16 - distance) : ramp;
  const lanes::Ints into_b = odd ? ramp + 16 : ramp + distance;
  for (int i = 0; i < 16; ++i) {
    if (i & distance) continue;
    const lanes::Words a = tile[i], b = tile[i + distance];
    tile[i] = __builtin_shuffle(a, b, into_a);
    tile[i + distance] = __builtin_shuffle(a, b, into_b);
  }
}

MEGATRON_INLINE void transpose_tile(lanes::Words (&tile)[16]) {
  swap_blocks<8>(tile);
  swap_blocks<4>(tile);
  swap_blocks<2>(tile);
  swap_blocks<1>(tile);
}

// Transposes words: load(row, column) returns 16 words of a row starting at `column`, and
// store(column, row, words) receives 16 words of a column starting at `row`. rows is a multiple of
// 16.
template <typename Load, typename Store>
MEGATRON_INLINE void transpose_words(int64_t rows, int64_t columns, const Load& load,
                                     const Store& store) {
  for (int64_t row = 0; row < rows; row += 16) {
    for (int64_t column = 0; column < columns; column += 16) {
      lanes::Words tile[16];
      for (int i = 0; i < 16; ++i) tile[i] = load(row + i, column);
      transpose_tile(tile);
      const int64_t count = std::min<int64_t>(16, columns - column);
      for (int64_t i = 0; i < count; ++i) store(column + i, row, tile[i]);
    }
  }
}

// 16 words of a row of `bytes` bytes, starting at word `column`; zeros past its end.
MEGATRON_INLINE lanes::Words load_words(const void* row, int64_t bytes, int64_t column) {
  lanes::Words words = {};
  const auto* from = static_cast<const char*>(row) + column * 4;
  const int64_t count = bytes - column * 4;
  if (count >= 64) {
    std::memcpy(&words, from, 64);
  } else if (count > 0) {
    std::memcpy(&words, from, count);
  }
  return words;
}

// Writes X^T [padded, padded_rows] of X [rows, width] as block_gemm's B.
template <typename T>
void pack_transposed(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
                     int64_t padded_rows, int64_t padded) {
  if constexpr (std::is_same_v<T, double>) {
    for (int64_t c = 0; c < padded; ++c) {
      for (int64_t r = 0; r < padded_rows; ++r) {
        to[c * padded_rows + r] = r < rows && c < width ? from[r * stride + c] : 0;
      }
    }
  } else {
    // A pair of bf16 moves as one word.
    const int64_t words = padded * static_cast<int64_t>(sizeof(T)) / 4;
    transpose_words(
        padded_rows, words,
        [&](int64_t row, int64_t column) {
          return row < rows ? load_words(from + row * stride, width * sizeof(T), column)
                            : lanes::Words{};
        },
        [&](int64_t column, int64_t row, lanes::Words value) {
          std::memcpy(reinterpret_cast<char*>(to) + (column * padded_rows + row) * 4, &value,
                      sizeof(value));
        });
  }
}

// Writes X^T [padded, padded_rows] of X [rows, width] as block_gemm's A.
template <typename T>
void transpose_rows(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
                    int64_t padded_rows, int64_t padded) {
  if constexpr (!std::is_same_v<T, c10::BFloat16>) {
    pack_transposed(from, stride, rows, width, to, padded_rows, padded);
  } else {
    transpose_words(
        padded_rows, padded,
        [&](int64_t row, int64_t column) {
          const int64_t count = std::clamp<int64_t>(width - column, 0, 16);
          if (row >= rows || count == 0) return lanes::Words{};
          return std::bit_cast<lanes::Words>(lanes::load<T>(from + row * stride + column, count));
        },
        [&](int64_t column, int64_t row, lanes::Words value) {
          const auto halves = __builtin_convertvector(value >> 16, lanes::HalfWords);
          std::memcpy(to + column * padded_rows + row, &halves, sizeof(halves));
        });
  }
}

// Stores probabilities or their gradients as T. bf16 uses the processor's conversion if there is
// one (it flushes subnormals to 0).
template <typename T>
MEGATRON_INLINE void store_row(T* to, lanes::Vector<T> value) {
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    const __m256bh halves = _mm512_cvtneps_pbh(std::bit_cast<__m512>(value));
    std::memcpy(to, &halves, sizeof(halves));
    return;
  }
#endif
  lanes::store<T>(to, value);
}

// Stores one vector each of the rows `row` (even) and `row` + 1 of block_gemm's B, at `column`.
template <typename T>
MEGATRON_INLINE void store_pair(T* to, int64_t ld, int64_t row, int64_t column,
                                lanes::Vector<T> even, lanes::Vector<T> odd) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
#if defined(__AVX512BF16__)
    using Halves = uint16_t __attribute__((vector_size(64)));
    constexpr Halves interleave = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512bh rounded =
        _mm512_cvtne2ps_pbh(std::bit_cast<__m512>(odd), std::bit_cast<__m512>(even));
    const Halves pair = __builtin_shuffle(std::bit_cast<Halves>(rounded), interleave);
#else
    const auto rounded = [](lanes::Floats value) {
      const auto bits = std::bit_cast<lanes::Words>(value);
      return bits + 0x7FFFu + ((bits >> 16) & 1u);
    };
    const lanes::Words pair = (rounded(even) >> 16) | (rounded(odd) & 0xFFFF0000u);
#endif
    std::memcpy(to + row * ld + column * 2, &pair, sizeof(pair));
  } else {
    lanes::store<T>(to + row * ld + column, even);
    lanes::store<T>(to + (row + 1) * ld + column, odd);
  }
}

// Packs rows as block_gemm's B, [padded_rows, padded], zero-padded. padded_rows is even.
template <typename T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
               int64_t padded_rows, int64_t padded) {
  if constexpr (!std::is_same_v<T, c10::BFloat16>) {
    copy_rows(from, stride, rows, width, to, padded_rows, padded);
  } else {
    for (int64_t i = 0; i < padded_rows; i += 2) {
      for (int64_t c = 0; c < padded; c += 16) {
        const int64_t count = std::clamp<int64_t>(width - c, 0, 16);
        const auto load = [&](int64_t row) {
          return row < rows && count > 0 ? lanes::load<T>(from + row * stride + c, count)
                                         : lanes::Floats{};
        };
        const auto even = std::bit_cast<lanes::Words>(load(i));
        const auto odd = std::bit_cast<lanes::Words>(load(i + 1));
        const lanes::Words pair = (even >> 16) | odd;
        std::memcpy(to + i * padded + c * 2, &pair, sizeof(pair));
      }
    }
  }
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::kernels
