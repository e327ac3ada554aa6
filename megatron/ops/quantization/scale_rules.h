// Scales from the largest magnitude (amax) of the values that share them, as Transformer Engine's
// kernels compute them. A scale multiplies when quantizing (code = cast(x * scale)), an inverse scale
// when reading. All functions are scalar, in fp32, and always inlined, since kernels of every level
// use them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace megatron {

inline constexpr float kLargestFloat = std::numeric_limits<float>::max();

// Current (per tensor) and blockwise scaling.
struct Fp32ScaleRule {
  bool power_of_two = false;  // clears the mantissa of the scale: rounds down
  float amax_epsilon = 0;     // smaller amax are replaced by it
};

#define MEGATRON_SCALE_RULE [[gnu::always_inline]] inline

// Whether it is neither infinite nor NaN; kernels may not call std::isfinite.
MEGATRON_SCALE_RULE bool finite(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7F800000u) != 0x7F800000u;
}

// largest / amax; 1 where amax is 0 or not finite; `scale_if_infinite`, the largest finite value of
// the input's dtype, where the quotient overflows.
MEGATRON_SCALE_RULE float fp32_scale(float amax, float largest, const Fp32ScaleRule& rule,
                                     float scale_if_infinite) {
  if (amax < rule.amax_epsilon) amax = rule.amax_epsilon;
  if (!finite(amax) || amax == 0.0f) return 1.0f;
  float scale = largest / amax;
  if (!finite(scale)) scale = scale_if_infinite;
  return rule.power_of_two ? std::bit_cast<float>(std::bit_cast<uint32_t>(scale) & 0xFF800000u)
                           : scale;
}

// MXFP8: the e8m0 code of the inverse scale, amax / largest rounded up to a power of two; 0 up to
// 2^-127, 254 for infinity, 255 for NaN.
MEGATRON_SCALE_RULE uint8_t e8m0_round_up(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu;
  if (bits > 0x7F800000u) return 255;
  if (bits == 0x7F800000u) return 254;
  const uint32_t exponent = bits >> 23, mantissa = bits & 0x7FFFFFu;
  const bool exact = exponent == 0 ? mantissa <= 0x400000u : mantissa == 0;
  return static_cast<uint8_t>(exact || exponent == 254 ? exponent : exponent + 1);
}

// 2^(127 - code), the factor of the elements under an e8m0 code; NaN for 255.
MEGATRON_SCALE_RULE float e8m0_inverse(uint8_t code) {
  if (code == 255) return std::bit_cast<float>(0x7FC00000u);
  if (code == 254) return 0x1p-127f;
  return std::bit_cast<float>(static_cast<uint32_t>(254 - code) << 23);
}

// NVFP4: the scale of a tensor, which brings its amax to 6 * 448, the largest products of an element
// and a block's scale. 1 where amax is 0 or not finite.
MEGATRON_SCALE_RULE float nvfp4_tensor_scale(float amax) {
  if (!finite(amax) || amax == 0.0f) return 1.0f;
  const float scale = 2688.0f / amax;
  return finite(scale) ? scale : kLargestFloat;
}

// NVFP4: what is cast to e4m3 as a block's scale. NaN stays NaN.
MEGATRON_SCALE_RULE float nvfp4_block_scale(float block_amax, float tensor_scale) {
  const float scale = block_amax * (tensor_scale * (1.0f / 6.0f));
  return scale > 448.0f ? 448.0f : scale;
}

// NVFP4: the factor of a block's elements, given the value of its e4m3 scale.
MEGATRON_SCALE_RULE float nvfp4_element_scale(float block_scale, float tensor_scale) {
  const float scale = 1.0f / (block_scale * (1.0f / tensor_scale));
  return scale > kLargestFloat ? kLargestFloat : scale;
}

#undef MEGATRON_SCALE_RULE

}  // namespace megatron
