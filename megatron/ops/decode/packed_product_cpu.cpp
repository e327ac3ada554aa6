// Products with packed weights: tiles of a few rows by one or two panels, held in registers.
//
// With one row the weights come from memory and are used once; with many, a pair of panels stays in
// the second-level cache while the rows pass by.
#include "megatron/ops/core/native_vector.h"
#include "megatron/ops/decode/packed_product_epilogue.h"

namespace megatron::kernels {

namespace {

using lanes::kNativeWidth;
using lanes::Native;
using lanes::NativeWords;

// Vectors of a panel.
constexpr int kPanelVectors = kDecodePanel / kNativeWidth;
// Vectors that a tile holds as sums: half or more of the registers.
constexpr int kMaxSums = lanes::kNativeBytes == 64 ? 24 : 12;
constexpr int kMaxRows = 6;

template <typename W>
inline constexpr int kStep = std::is_same_v<W, c10::BFloat16> ? 2 : 1;  // of k

// Bytes ahead of the weights being read, for the processor's prefetcher stops at pages.
constexpr int64_t kPrefetch = 2048;

// Keeps a vector that several rows use in a register; compilers would load it again for each row.
template <int rows, typename V>
MEGATRON_INLINE void keep_in_register([[maybe_unused]] V& value) {
#if defined(__x86_64__)
  if constexpr (rows > 1) asm("" : "+v"(value));
#endif
}

MEGATRON_INLINE Native pair_dot(Native sum, NativeWords weights, uint32_t pair) {
#if defined(__AVX512BF16__)
  return std::bit_cast<Native>(_mm512_dpbf16_ps(std::bit_cast<__m512>(sum),
                                                std::bit_cast<__m512bh>(weights),
                                                std::bit_cast<__m512bh>(NativeWords{} + pair)));
#else
  const float even = std::bit_cast<float>(pair << 16),
              odd = std::bit_cast<float>(pair & 0xFFFF0000u);
  sum += std::bit_cast<Native>(weights << 16) * lanes::native_broadcast(even);
  return sum + std::bit_cast<Native>(weights & 0xFFFF0000u) * lanes::native_broadcast(odd);
#endif
}

// sums [rows][panels * 32] of rows of x and `panels` panels, which are panel_stride apart.
template <typename W, int rows, int panels>
MEGATRON_INLINE void multiply_tile(int64_t k, const decode_input_t<W>* x, int64_t x_stride,
                                   const W* weights, int64_t panel_stride, float* sums) {
  constexpr int vectors = panels * kPanelVectors;
  constexpr int step = kStep<W>;
  Native sum[rows][vectors] = {};
  for (int64_t i = 0; i < k; i += step) {
    const W* at = weights + i * kDecodePanel;
#pragma GCC unroll 2
    for (int panel = 0; panel < panels; ++panel) {
      if constexpr (rows <= 4) {
        const char* ahead = reinterpret_cast<const char*>(at + panel * panel_stride) + kPrefetch;
        for (int64_t byte = 0; byte < kDecodePanel * step * int64_t(sizeof(W)); byte += 64)
          __builtin_prefetch(ahead + byte);
      }
    }
    if constexpr (step == 2) {
      NativeWords pairs[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        pairs[v] = lanes::native_words(at + (v / kPanelVectors) * panel_stride +
                                       (v % kPanelVectors) * kNativeWidth * 2);
        keep_in_register<rows>(pairs[v]);
      }
#pragma GCC unroll 6
      for (int row = 0; row < rows; ++row) {
        uint32_t pair;
        std::memcpy(&pair, x + row * x_stride + i, sizeof(pair));
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[row][v] = pair_dot(sum[row][v], pairs[v], pair);
      }
    } else {
      Native values[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        values[v] = lanes::native_load(at + (v / kPanelVectors) * panel_stride +
                                       (v % kPanelVectors) * kNativeWidth);
        keep_in_register<rows>(values[v]);
      }
#pragma GCC unroll 6
      for (int row = 0; row < rows; ++row) {
        const Native factor = lanes::native_broadcast(x[row * x_stride + i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[row][v] += values[v] * factor;
      }
    }
  }
#pragma GCC unroll 6
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      lanes::native_store(sums + (row * vectors + v) * kNativeWidth, sum[row][v]);
  }
}

// multiply_tile for a number of rows that is known at run time.
template <typename W, int panels, int rows = kMaxRows>
MEGATRON_INLINE void multiply_rows(int64_t count, int64_t k, const decode_input_t<W>* x,
                                   int64_t x_stride, const W* weights, int64_t panel_stride,
                                   float* sums) {
  if constexpr (rows > 0) {
    if constexpr (rows * panels * kPanelVectors <= kMaxSums) {
      if (count == rows)
        return multiply_tile<W, rows, panels>(k, x, x_stride, weights, panel_stride, sums);
    }
    multiply_rows<W, panels, rows - 1>(count, k, x, x_stride, weights, panel_stride, sums);
  }
}

template <typename W, int panels>
void multiply_panels(const PackedProduct& product, int64_t first, int64_t first_row,
                     int64_t last_row) {
  using X = decode_input_t<W>;
  constexpr int64_t most = kMaxSums / (panels * kPanelVectors);
  constexpr int64_t rows = most < kMaxRows ? most : kMaxRows;
  const int64_t panel_stride = product.k * kDecodePanel;
  const W* weights = static_cast<const W*>(product.panels) + first * panel_stride;
  alignas(64) float sums[rows * panels * kDecodePanel];
  for (int64_t row = first_row; row < last_row; row += rows) {
    const int64_t count = last_row - row < rows ? last_row - row : rows;
    multiply_rows<W, panels>(count, product.k,
                             static_cast<const X*>(product.x) + row * product.x_stride,
                             product.x_stride, weights, panel_stride, sums);
    for (int64_t i = 0; i < count; ++i)
      finish_row<decode_input_t<W>>(product, row + i, first, panels,
                                    sums + i * panels * kDecodePanel);
  }
}

}  // namespace

template <KernelLevel level, typename W>
void packed_product(const PackedProduct& product, int64_t first, int64_t last, int64_t first_row,
                    int64_t last_row) {
  int64_t panel = first;
  for (; panel + 2 <= last; panel += 2) multiply_panels<W, 2>(product, panel, first_row, last_row);
  if (panel < last) multiply_panels<W, 1>(product, panel, first_row, last_row);
}

template <KernelLevel level, typename W>
void pack_panel(const W* weight, int64_t stride, int64_t count, int64_t k, W* panel) {
  constexpr int64_t step = kStep<W>, block = 16;
  // Blocks of k, so that a block of the panel stays in the first-level cache.
  for (int64_t begin = 0; begin < k; begin += block) {
    const int64_t end = begin + block < k ? begin + block : k;
    for (int64_t column = 0; column < kDecodePanel; ++column) {
      const W* from = weight + column * stride;
      for (int64_t i = begin; i < end; ++i) {
        W* to = panel + (i / step * kDecodePanel + column) * step + i % step;
        *to = column < count ? from[i] : W(0);
      }
    }
  }
}

#define MEGATRON_INSTANTIATE(W)                                                                  \
  template void packed_product<kKernelLevel, W>(const PackedProduct&, int64_t, int64_t, int64_t, \
                                                int64_t);                                        \
  template void pack_panel<kKernelLevel, W>(const W*, int64_t, int64_t, int64_t, W*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(c10::BFloat16)
MEGATRON_INSTANTIATE(c10::Half)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
