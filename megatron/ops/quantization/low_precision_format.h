// The low-precision floating-point formats and their constants. Sources: OCP "8-bit Floating Point
// Specification" (e4m3, e5m2) and "Microscaling Formats Specification" v1.0 (e2m1, e8m0).
#pragma once

#include <cstdint>
#include <string_view>

namespace megatron {

// Codes are stored one per byte, as uint8.
enum class LowPrecisionFormat {
  e4m3,  // FP8 with finite values and NaN (0x7F, 0xFF) only: torch's float8_e4m3fn
  e5m2,  // FP8 with infinity (0x7C) and NaN
  e2m1,  // FP4 without infinity and NaN; the sign is bit 3
  e8m0,  // powers of two, 2^(code - 127), for scales of blocks; no sign, no zero; 255 is NaN
};

// What happens to values beyond the largest finite one.
enum class CastOverflow {
  saturate,  // the largest value with the sign of the input, infinity included; NaN stays NaN
  special,   // infinity where the format has it (e5m2), else NaN (e4m3)
};

constexpr std::string_view format_name(LowPrecisionFormat format) {
  switch (format) {
    case LowPrecisionFormat::e4m3:
      return "e4m3";
    case LowPrecisionFormat::e5m2:
      return "e5m2";
    case LowPrecisionFormat::e2m1:
      return "e2m1";
    case LowPrecisionFormat::e8m0:
      return "e8m0";
  }
  return "";
}

// The largest finite value. Always inlined: kernels of every level use it.
[[gnu::always_inline]] constexpr float largest_value(LowPrecisionFormat format) {
  switch (format) {
    case LowPrecisionFormat::e4m3:
      return 448.0f;
    case LowPrecisionFormat::e5m2:
      return 57344.0f;
    case LowPrecisionFormat::e2m1:
      return 6.0f;
    case LowPrecisionFormat::e8m0:
      return 0x1p127f;
  }
  return 0;
}

}  // namespace megatron
