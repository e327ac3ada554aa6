// Integer dot products of four codes and four activations per 32-bit lane, by VNNI instructions where
// the level has them, else by products of 16-bit integers. Both are exact.
#include "megatron/ops/core/native_vector.h"
#include "megatron/ops/decode/low_bit_product_kernels.h"
#include "megatron/ops/decode/packed_product_epilogue.h"

namespace megatron::kernels {

namespace {

using lanes::kNativeWidth;
using lanes::Native;
using lanes::NativeWords;
using NativeInts = int32_t __attribute__((vector_size(lanes::kNativeBytes)));

constexpr int kPanelVectors = kDecodePanel / kNativeWidth;
constexpr int kMaxSums = lanes::kNativeBytes == 64 ? 8 : 4;

// sum + the dot products of unsigned codes and signed activations; the four of a lane are in `quad`.
MEGATRON_INLINE NativeInts quad_dot(NativeInts sum, NativeWords codes, uint32_t quad) {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  return std::bit_cast<NativeInts>(
      _mm512_dpbusd_epi32(std::bit_cast<__m512i>(sum), std::bit_cast<__m512i>(codes),
                          std::bit_cast<__m512i>(NativeWords{} + quad)));
#elif defined(__AVX2__)
  // Pairs of 16 bits: bytes 0 and 2, then bytes 1 and 3.
  const auto signed_byte = [](uint32_t byte) {
    return static_cast<uint32_t>(static_cast<uint16_t>(static_cast<int8_t>(byte)));
  };
  const uint32_t even = signed_byte(quad) | signed_byte(quad >> 16) << 16;
  const uint32_t odd = signed_byte(quad >> 8) | signed_byte(quad >> 24) << 16;
  const NativeWords low = codes & 0x00FF00FFu, high = (codes >> 8) & 0x00FF00FFu;
#if defined(__AVX512BW__)
  const auto multiply = [](NativeWords a, uint32_t b) {
    return std::bit_cast<NativeInts>(
        _mm512_madd_epi16(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(NativeWords{} + b)));
  };
#else
  const auto multiply = [](NativeWords a, uint32_t b) {
    return std::bit_cast<NativeInts>(
        _mm256_madd_epi16(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(NativeWords{} + b)));
  };
#endif
  return sum + multiply(low, even) + multiply(high, odd);
#else
  for (int i = 0; i < kNativeWidth; ++i) {
    for (int byte = 0; byte < 4; ++byte) {
      sum[i] += static_cast<int32_t>(codes[i] >> (8 * byte) & 0xFFu) *
                static_cast<int8_t>(quad >> (8 * byte));
    }
  }
  return sum;
#endif
}

MEGATRON_INLINE uint32_t load_quad(const unsigned char* from) {
  uint32_t quad;
  std::memcpy(&quad, from, sizeof(quad));
  return quad;
}

// sums [rows][panels * 32].
template <int bits, int rows, int panels>
MEGATRON_INLINE void multiply_tile(const LowBitFormat& format, int64_t k, const unsigned char* x,
                                   int64_t x_stride, const unsigned char* weights,
                                   int64_t panel_bytes, float* sums) {
  constexpr int vectors = panels * kPanelVectors;
  constexpr int64_t block = bits == 8 ? 4 : 8;  // values of k
  constexpr int64_t block_bytes = kDecodePanel * block * bits / 8;
  const int64_t padded = low_bit_padded(k);
  const int64_t code_bytes = format.group_size * kDecodePanel * bits / 8;
  const auto place = [&](int v) {
    return (v / kPanelVectors) * panel_bytes + (v % kPanelVectors) * lanes::kNativeBytes;
  };
  const auto scale_of = [&](int row, int64_t i) {
    float value;
    std::memcpy(&value, x + row * x_stride + padded + i * int64_t(sizeof(float)), sizeof(value));
    return value;
  };
  const int64_t all_groups = padded / kActivationGroup;
  Native total[rows][vectors] = {};
  int64_t activation_group = 0;
  for (int64_t first = 0; first < padded; first += format.group_size) {
    const unsigned char* group = weights + first / format.group_size * format.group_bytes();
    Native sum[rows][vectors] = {};
    float offset[rows] = {};
    for (int64_t i = 0; i < format.group_size; i += kActivationGroup, ++activation_group) {
      NativeInts dots[rows][vectors] = {};
#pragma GCC unroll 2
      for (int64_t j = 0; j < kActivationGroup; j += block) {
        const unsigned char* at = group + (i + j) / block * block_bytes;
        if constexpr (rows == 1) {
          for (int panel = 0; panel < panels; ++panel) {
            for (int64_t byte = 0; byte < block_bytes; byte += 64)
              __builtin_prefetch(at + panel * panel_bytes + 2048 + byte);
          }
        }
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const NativeWords codes = lanes::native_words(at + place(v));
#pragma GCC unroll 4
          for (int row = 0; row < rows; ++row) {
            const unsigned char* quads = x + row * x_stride + first + i + j;
            if constexpr (bits == 8) {
              dots[row][v] = quad_dot(dots[row][v], codes, load_quad(quads));
            } else {
              dots[row][v] = quad_dot(dots[row][v], codes & 0x0F0F0F0Fu, load_quad(quads));
              dots[row][v] =
                  quad_dot(dots[row][v], (codes >> 4) & 0x0F0F0F0Fu, load_quad(quads + 4));
            }
          }
        }
      }
#pragma GCC unroll 4
      for (int row = 0; row < rows; ++row) {
        const Native scale = lanes::native_broadcast(scale_of(row, activation_group));
        offset[row] += scale_of(row, all_groups + activation_group);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v)
          sum[row][v] += __builtin_convertvector(dots[row][v], Native) * scale;
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const auto* scales = reinterpret_cast<const float*>(group + code_bytes + place(v));
      const Native scale = lanes::native_load(scales);
      const Native zero_point = lanes::native_load(scales + kDecodePanel);
#pragma GCC unroll 4
      for (int row = 0; row < rows; ++row)
        total[row][v] += scale * (sum[row][v] - zero_point * lanes::native_broadcast(offset[row]));
    }
  }
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < vectors; ++v)
      lanes::native_store(sums + (row * vectors + v) * kNativeWidth, total[row][v]);
  }
}

template <int bits, int panels, int rows>
MEGATRON_INLINE void multiply_rows(int64_t count, const LowBitFormat& format, int64_t k,
                                   const unsigned char* x, int64_t x_stride,
                                   const unsigned char* weights, int64_t panel_bytes, float* sums) {
  if constexpr (rows > 0) {
    if (count == rows) {
      return multiply_tile<bits, rows, panels>(format, k, x, x_stride, weights, panel_bytes, sums);
    }
    multiply_rows<bits, panels, rows - 1>(count, format, k, x, x_stride, weights, panel_bytes,
                                          sums);
  }
}

template <int bits, int panels>
void multiply_panels(const PackedProduct& product, const LowBitFormat& format, int64_t first,
                     int64_t first_row, int64_t last_row) {
  constexpr int rows =
      kMaxSums / (panels * kPanelVectors) > 0 ? kMaxSums / (panels * kPanelVectors) : 1;
  const int64_t panel_bytes = format.panel_bytes(product.k);
  const auto* weights = static_cast<const unsigned char*>(product.panels) + first * panel_bytes;
  const auto* x = static_cast<const unsigned char*>(product.x);
  alignas(64) float sums[rows * panels * kDecodePanel];
  for (int64_t row = first_row; row < last_row; row += rows) {
    const int64_t count = last_row - row < rows ? last_row - row : rows;
    multiply_rows<bits, panels, rows>(count, format, product.k, x + row * product.x_stride,
                                      product.x_stride, weights, panel_bytes, sums);
    for (int64_t i = 0; i < count; ++i)
      finish_row<float>(product, row + i, first, panels, sums + i * panels * kDecodePanel);
  }
}

template <int bits>
void multiply_all(const PackedProduct& product, const LowBitFormat& format, int64_t first,
                  int64_t last, int64_t first_row, int64_t last_row) {
  int64_t panel = first;
  for (; panel + 2 <= last; panel += 2)
    multiply_panels<bits, 2>(product, format, panel, first_row, last_row);
  if (panel < last) multiply_panels<bits, 1>(product, format, panel, first_row, last_row);
}

}  // namespace

template <KernelLevel level>
void quantize_activations(int64_t k, const float* x, void* row) {
  auto* codes = static_cast<int8_t*>(row);
  const int64_t padded = low_bit_padded(k), groups = padded / kActivationGroup;
  auto* scales = reinterpret_cast<float*>(codes + padded);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * kActivationGroup;
    const int64_t count = k - first < kActivationGroup ? k - first : kActivationGroup;
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float size = __builtin_fabsf(x[first + i]);
      largest = size > largest ? size : largest;
    }
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int32_t sum = 0;
    for (int64_t i = 0; i < kActivationGroup; ++i) {
      const float value = i < count ? x[first + i] * inverse : 0.0f;
      const auto code = static_cast<int32_t>(value + (value < 0 ? -0.5f : 0.5f));
      codes[first + i] = static_cast<int8_t>(code);
      sum += code;
    }
    scales[group] = largest / 127.0f;
    scales[groups + group] = static_cast<float>(sum) * (largest / 127.0f);
  }
}

template <KernelLevel level>
void low_bit_product(const PackedProduct& product, const LowBitFormat& format, int64_t first,
                     int64_t last, int64_t first_row, int64_t last_row) {
  if (format.bits == 8) return multiply_all<8>(product, format, first, last, first_row, last_row);
  multiply_all<4>(product, format, first, last, first_row, last_row);
}

template <KernelLevel level>
void pack_low_bit_panel(const LowBitFormat& format, int64_t count, int64_t k, int64_t groups,
                        const int16_t* codes, const float* scales, const int32_t* zero_points,
                        int shift, void* panel) {
  auto* bytes = static_cast<unsigned char*>(panel);
  const int64_t size = format.group_size, code_bytes = size * kDecodePanel * format.bits / 8;
  for (int64_t group = 0; group < low_bit_padded(k) / size; ++group) {
    unsigned char* to = bytes + group * format.group_bytes();
    auto* factors = reinterpret_cast<float*>(to + code_bytes);
    for (int64_t column = 0; column < kDecodePanel; ++column) {
      const bool is_output = column < count && group < groups;
      factors[column] = is_output ? scales[column * groups + group] : 0.0f;
      factors[kDecodePanel + column] =
          is_output ? static_cast<float>(zero_points[column * groups + group] + shift) : 0.0f;
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = group * size + i;
        const int code = is_output && at < k ? codes[column * k + at] + shift : 0;
        if (format.bits == 8) {
          to[(i / 4 * kDecodePanel + column) * 4 + i % 4] = static_cast<unsigned char>(code);
        } else {
          unsigned char& byte = to[(i / 8 * kDecodePanel + column) * 4 + i % 4];
          byte = static_cast<unsigned char>(i % 8 < 4 ? code : byte | code << 4);
        }
      }
    }
  }
}

template void quantize_activations<kKernelLevel>(int64_t, const float*, void*);
template void low_bit_product<kKernelLevel>(const PackedProduct&, const LowBitFormat&, int64_t,
                                            int64_t, int64_t, int64_t);
template void pack_low_bit_panel<kKernelLevel>(const LowBitFormat&, int64_t, int64_t, int64_t,
                                               const int16_t*, const float*, const int32_t*, int,
                                               void*);

}  // namespace megatron::kernels
