#include "megatron/formats/safetensors_format.h"

#include <utility>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr std::pair<std::string_view, at::ScalarType> kSafetensorsNames[] = {
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U64", at::kUInt64},
    {"U32", at::kUInt32},
    {"U16", at::kUInt16},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
};

}  // namespace

std::string_view safetensors_dtype_name(at::ScalarType dtype) {
  for (const auto& [name, type] : kSafetensorsNames) {
    if (type == dtype) return name;
  }
  fail("Expected a data type of the safetensors format, but got {}", c10::toString(dtype));
}

std::optional<at::ScalarType> safetensors_dtype(std::string_view name) {
  for (const auto& [known, type] : kSafetensorsNames) {
    if (known == name) return type;
  }
  return std::nullopt;
}

}  // namespace megatron
