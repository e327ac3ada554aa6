#include "megatron/base/dtype.h"

#include <map>

#include "megatron/base/error.h"

namespace megatron {

at::ScalarType dtype_from_name(std::string_view name) {
  static const std::map<std::string_view, at::ScalarType> names = {
      {"fp32", at::kFloat},    {"float32", at::kFloat},     {"torch.float32", at::kFloat},
      {"bf16", at::kBFloat16}, {"bfloat16", at::kBFloat16}, {"torch.bfloat16", at::kBFloat16},
      {"fp16", at::kHalf},     {"float16", at::kHalf},      {"torch.float16", at::kHalf},
      {"fp64", at::kDouble},   {"float64", at::kDouble},    {"torch.float64", at::kDouble},
  };
  const auto found = names.find(name);
  check(found != names.end(), "Expected a data type of fp32, bf16, fp16 or fp64, but got '{}'",
        name);
  return found->second;
}

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "fp32";
    case at::kBFloat16:
      return "bf16";
    case at::kHalf:
      return "fp16";
    case at::kDouble:
      return "fp64";
    case at::kLong:
      return "int64";
    case at::kInt:
      return "int32";
    case at::kShort:
      return "int16";
    case at::kChar:
      return "int8";
    case at::kByte:
      return "uint8";
    case at::kBool:
      return "bool";
    default:
      return c10::toString(dtype);
  }
}

}  // namespace megatron
