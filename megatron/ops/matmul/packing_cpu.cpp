// Packing of bf16 operands for block_gemm and rounding of its sums: CPU kernels.
#include <algorithm>

#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron::kernels {

namespace {

constexpr int kTile = 16;
using lanes::HalfWords;
using lanes::Words;

template <typename V>
MEGATRON_INLINE V interleave_low(V a, V b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

template <typename V>
MEGATRON_INLINE V interleave_high(V a, V b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}

// Transposes 16 x 16 elements of sizeof(V) / 16 bytes; strides are in bytes. Interleaving rows i
// and i + 8 rotates the eight bits of (row, column) by one; four such rounds swap row and column.
template <typename V>
MEGATRON_INLINE void transpose_tile(const void* from, int64_t from_stride, void* to,
                                    int64_t to_stride) {
  V rows[kTile], mixed[kTile];
  for (int i = 0; i < kTile; ++i) {
    std::memcpy(&rows[i], static_cast<const char*>(from) + i * from_stride, sizeof(V));
  }
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
  for (int i = 0; i < kTile; ++i) {
    std::memcpy(static_cast<char*>(to) + i * to_stride, &rows[i], sizeof(V));
  }
}

constexpr int64_t kBytes = sizeof(c10::BFloat16);

}  // namespace

template <KernelLevel level>
void pack_panel(int64_t depth, int64_t columns, const c10::BFloat16* from, int64_t stride,
                c10::BFloat16* to) {
  for (int64_t pair = 0; pair < depth / 2; ++pair) {
    const c10::BFloat16 *even = from + 2 * pair * stride, *odd = even + stride;
    c10::BFloat16* out = to + pair * 2 * kPanelColumns;
    int64_t i = 0;
    for (; i + kTile <= columns; i += kTile) {
      HalfWords low, high;
      std::memcpy(&low, even + i, sizeof(low));
      std::memcpy(&high, odd + i, sizeof(high));
      const Words pairs =
          __builtin_convertvector(low, Words) | (__builtin_convertvector(high, Words) << 16);
      std::memcpy(out + 2 * i, &pairs, sizeof(pairs));
    }
    for (; i < columns; ++i) {
      out[2 * i] = even[i];
      out[2 * i + 1] = odd[i];
    }
  }
}

template <KernelLevel level>
void pack_panel_transposed(int64_t depth, int64_t columns, const c10::BFloat16* from,
                           int64_t stride, c10::BFloat16* to) {
  // Two adjacent elements of a row form one 32-bit word, so this is a transpose of words.
  const int64_t words = depth / 2, full_words = words / kTile * kTile,
                full_columns = columns / kTile * kTile;
  for (int64_t column = 0; column < full_columns; column += kTile) {
    for (int64_t word = 0; word < full_words; word += kTile) {
      transpose_tile<Words>(from + column * stride + 2 * word, stride * kBytes,
                            to + 2 * (word * kPanelColumns + column), 2 * kPanelColumns * kBytes);
    }
  }
  for (int64_t column = 0; column < columns; ++column) {
    for (int64_t word = column < full_columns ? full_words : 0; word < words; ++word) {
      std::memcpy(to + 2 * (word * kPanelColumns + column), from + column * stride + 2 * word,
                  2 * kBytes);
    }
  }
}

template <KernelLevel level>
void transpose_bf16(int64_t rows, int64_t columns, const c10::BFloat16* from, int64_t from_stride,
                    c10::BFloat16* to, int64_t to_stride) {
  const int64_t full_rows = rows / kTile * kTile, full_columns = columns / kTile * kTile;
  for (int64_t i = 0; i < full_rows; i += kTile) {
    for (int64_t j = 0; j < full_columns; j += kTile) {
      transpose_tile<HalfWords>(from + i * from_stride + j, from_stride * kBytes,
                                to + j * to_stride + i, to_stride * kBytes);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < full_rows ? full_columns : 0; j < columns; ++j) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

template <KernelLevel level>
void store_bf16_block(int64_t rows, int64_t columns, const float* from, int64_t from_stride,
                      const c10::BFloat16* bias, c10::BFloat16* to, int64_t to_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    lanes::for_each_vector<float>(columns, [&](int64_t i, auto count) {
      auto sum = lanes::load<float>(from + row * from_stride + i, count);
      if (bias != nullptr) sum += lanes::load<c10::BFloat16>(bias + i, count);
      lanes::store<c10::BFloat16>(to + row * to_stride + i, sum, count);
    });
  }
}

template <KernelLevel level>
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

template void pack_panel<kKernelLevel>(int64_t, int64_t, const c10::BFloat16*, int64_t,
                                       c10::BFloat16*);
template void pack_panel_transposed<kKernelLevel>(int64_t, int64_t, const c10::BFloat16*, int64_t,
                                                  c10::BFloat16*);
template void transpose_bf16<kKernelLevel>(int64_t, int64_t, const c10::BFloat16*, int64_t,
                                           c10::BFloat16*, int64_t);
template void store_bf16_block<kKernelLevel>(int64_t, int64_t, const float*, int64_t,
                                             const c10::BFloat16*, c10::BFloat16*, int64_t);
template void add_bf16<kKernelLevel>(int64_t, const c10::BFloat16*, float*);

}  // namespace megatron::kernels
