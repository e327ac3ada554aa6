// Casts between fp32 and the low-precision formats. They round to nearest, ties to even, and never
// depend on what libtorch's casts do with large values, which changed between its versions.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "megatron/ops/quantization/low_precision_format.h"

namespace megatron {

// The codes, uint8 of x's shape, of fp32, bf16 or fp16 values on the CPU. e2m1 always saturates, and
// NaN becomes 6 there, as in CUDA's conversion. e8m0 rounds to the nearest power of two (ties up) and
// ignores the sign; it is not the rounding of MXFP8's scales (scale_rules.h). Throws Error for other
// dtypes and devices.
at::Tensor cast_to_codes(const at::Tensor& x, LowPrecisionFormat format,
                         CastOverflow overflow = CastOverflow::saturate);

// The values, fp32 of the shape of `codes`, of uint8 codes on the CPU. e2m1 reads the low four bits.
at::Tensor decode_codes(const at::Tensor& codes, LowPrecisionFormat format);

namespace reference {

// One code or value by search in the format's definition; slow.
uint8_t cast_to_code(float x, LowPrecisionFormat format,
                     CastOverflow overflow = CastOverflow::saturate);
float decode_code(uint8_t code, LowPrecisionFormat format);

}  // namespace reference
}  // namespace megatron
