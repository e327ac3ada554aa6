// The casts by the definition of the formats, without bit tricks.
#include <cmath>
#include <limits>

#include "megatron/base/error.h"
#include "megatron/ops/quantization/casts.h"

namespace megatron::reference {
namespace {

struct FormatFields {
  int exponent_bits, mantissa_bits, bias;
};

FormatFields format_fields(LowPrecisionFormat format) {
  switch (format) {
    case LowPrecisionFormat::e4m3:
      return {4, 3, 7};
    case LowPrecisionFormat::e5m2:
      return {5, 2, 15};
    case LowPrecisionFormat::e2m1:
      return {2, 1, 1};
    case LowPrecisionFormat::e8m0:
      break;
  }
  fail("Expected a format with a mantissa, but got {}", format_name(format));
}

}  // namespace

float decode_code(uint8_t code, LowPrecisionFormat format) {
  if (format == LowPrecisionFormat::e8m0) {
    return code == 255 ? std::numeric_limits<float>::quiet_NaN()
                       : static_cast<float>(std::ldexp(1.0, code - 127));
  }
  const FormatFields fields = format_fields(format);
  const int sign_bit = fields.exponent_bits + fields.mantissa_bits;
  const int mantissa = code & ((1 << fields.mantissa_bits) - 1);
  const int exponent = (code >> fields.mantissa_bits) & ((1 << fields.exponent_bits) - 1);
  double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - fields.bias - fields.mantissa_bits)
                                   : std::ldexp((1 << fields.mantissa_bits) + mantissa,
                                                exponent - fields.bias - fields.mantissa_bits);
  if (format == LowPrecisionFormat::e4m3 && (code & 0x7F) == 0x7F) magnitude = NAN;
  if (format == LowPrecisionFormat::e5m2 && exponent == 31) magnitude = mantissa ? NAN : INFINITY;
  return static_cast<float>(((code >> sign_bit) & 1) ? -magnitude : magnitude);
}

uint8_t cast_to_code(float x, LowPrecisionFormat format, CastOverflow overflow) {
  if (format == LowPrecisionFormat::e8m0) {
    const double magnitude = std::fabs(static_cast<double>(x));
    if (!(magnitude < 1.5 * 0x1p127)) return 255;
    int code = 0;
    // Half way between 2^(code-127) and the next power of two goes up, except from 2^-128.
    if (magnitude > 0x1p-127) code = 1;
    while (code >= 1 && code < 254 && magnitude >= 1.5 * std::ldexp(1.0, code - 127)) ++code;
    return static_cast<uint8_t>(code);
  }
  const bool negative = std::signbit(x);
  const FormatFields fields = format_fields(format);
  const uint8_t sign =
      negative ? static_cast<uint8_t>(1u << (fields.exponent_bits + fields.mantissa_bits)) : 0;
  if (std::isnan(x)) return format == LowPrecisionFormat::e2m1 ? 7 : sign | 0x7F;
  const double magnitude = std::fabs(static_cast<double>(x));
  int largest = 0;
  while (decode_code(static_cast<uint8_t>(largest), format) < largest_value(format)) ++largest;
  // The step above the largest value that its own binade would have.
  const double beyond =
      2.0 * largest_value(format) - decode_code(static_cast<uint8_t>(largest - 1), format);
  // Nearest code; the tie to the largest value's upper neighbour goes to the even code.
  const double limit = (largest_value(format) + beyond) / 2;
  const bool overflows = largest % 2 == 0 ? magnitude > limit : magnitude >= limit;
  if (overflows) {
    const bool saturates = overflow == CastOverflow::saturate || format == LowPrecisionFormat::e2m1;
    return sign | static_cast<uint8_t>(saturates ? largest : largest + 1);
  }
  int best = 0;
  double distance = magnitude;
  for (int code = 1; code <= largest; ++code) {
    const double other = std::fabs(decode_code(static_cast<uint8_t>(code), format) - magnitude);
    if (other < distance || (other == distance && code % 2 == 0)) {
      best = code;
      distance = other;
    }
  }
  return sign | static_cast<uint8_t>(best);
}

}  // namespace megatron::reference
