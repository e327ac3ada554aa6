#include "megatron/checkpoint/dtype_conversion.h"

#include <optional>

namespace megatron {
namespace {

struct FloatFormat {
  int exponent_bits, significand_bits;
};

std::optional<FloatFormat> float_format(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return FloatFormat{11, 53};
    case at::kFloat:
      return FloatFormat{8, 24};
    case at::kBFloat16:
      return FloatFormat{8, 8};
    case at::kHalf:
      return FloatFormat{5, 11};
    case at::kFloat8_e5m2:
      return FloatFormat{5, 3};
    case at::kFloat8_e4m3fn:
      return FloatFormat{4, 4};
    default:
      return std::nullopt;
  }
}

}  // namespace

bool is_lossless_conversion(at::ScalarType from, at::ScalarType to) {
  if (from == to) return true;
  const auto source = float_format(from);
  const auto target = float_format(to);
  if (source && target) {
    return target->exponent_bits >= source->exponent_bits &&
           target->significand_bits >= source->significand_bits;
  }
  if (!c10::isIntegralType(from, /*includeBool=*/true) ||
      !c10::isIntegralType(to, /*includeBool=*/false)) {
    return false;
  }
  if (from == at::kBool) return true;
  return c10::elementSize(to) > c10::elementSize(from) &&
         (c10::isSignedType(to) || !c10::isSignedType(from));
}

}  // namespace megatron
