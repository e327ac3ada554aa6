// Names of data types in the safetensors format (huggingface.co/docs/safetensors).
#pragma once

#include <optional>
#include <string_view>

#include <c10/core/ScalarType.h>

namespace megatron {

// "F32", "BF16", ... Throws Error for a type that the format does not support.
std::string_view safetensors_dtype_name(at::ScalarType dtype);

// Empty for an unknown name.
std::optional<at::ScalarType> safetensors_dtype(std::string_view name);

}  // namespace megatron
