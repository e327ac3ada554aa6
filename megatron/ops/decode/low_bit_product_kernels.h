// Products with INT8 and INT4 weights: the activations of a row are quantized to 8 bits in groups of
// 32, and integer dot products are scaled group by group. No weight is turned into floating point.
#pragma once

#include <cstdint>

#include "megatron/ops/decode/packed_product_kernels.h"

namespace megatron::kernels {

// Activations that share a scale.
inline constexpr int64_t kActivationGroup = 32;

// A quantized row of k activations: k_padded bytes of codes, then per group of 32 the scale, then
// the sum of the group's values. Padding is zero.
inline constexpr int64_t low_bit_padded(int64_t k) {
  return (k + kActivationGroup - 1) / kActivationGroup * kActivationGroup;
}
inline constexpr int64_t low_bit_row_bytes(int64_t k) {
  return low_bit_padded(k) + 2 * low_bit_padded(k) / kActivationGroup * int64_t(sizeof(float));
}

template <KernelLevel level>
void quantize_activations(int64_t k, const float* x, void* row);

// A panel of 32 outputs holds group by group of the weights: the codes, 32 scales, 32 zero points.
// INT8: [k / 4][32][4] codes; INT4: [k / 8][32][4] bytes with the codes k, k + 4 of a block of 8 in
// the halves of a byte. Codes are unsigned; a zero point is what a weight of zero has.
struct LowBitFormat {
  int bits = 8;            // 8 or 4
  int64_t group_size = 0;  // a multiple of 32 that divides the padded k

  int64_t group_bytes() const {
    return group_size * kDecodePanel * bits / 8 + 2 * kDecodePanel * int64_t(sizeof(float));
  }
  int64_t panel_bytes(int64_t k) const { return low_bit_padded(k) / group_size * group_bytes(); }
};

// packed_product for these formats: product.x holds quantized rows, x_stride bytes apart, and z is
// fp32.
template <KernelLevel level>
void low_bit_product(const PackedProduct& product, const LowBitFormat& format, int64_t first,
                     int64_t last, int64_t first_row, int64_t last_row);

// Writes one panel: output i is codes + i * k, scales + i * groups and zero_points + i * groups, or
// zeros from `count` on. Codes are shifted by `shift` to be unsigned.
template <KernelLevel level>
void pack_low_bit_panel(const LowBitFormat& format, int64_t count, int64_t k, int64_t groups,
                        const int16_t* codes, const float* scales, const int32_t* zero_points,
                        int shift, void* panel);

}  // namespace megatron::kernels
