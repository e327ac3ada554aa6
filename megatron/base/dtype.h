// Names of data types, and the dtype in which operators accumulate.
#pragma once

#include <string>
#include <string_view>

#include <c10/core/ScalarType.h>

namespace megatron {

// Accepts "fp32", "bf16", "fp16", "fp64" and PyTorch's names ("float32", "torch.bfloat16", ...).
// Throws Error for any other name.
at::ScalarType dtype_from_name(std::string_view name);

// Short name: fp32, bf16, fp16, fp64, int64, int32, int16, int8, uint8 or bool.
std::string dtype_name(at::ScalarType dtype);

// The wider of fp32 and `dtype`. Stands for Megatron's "upcast to fp32", but keeps fp64.
inline at::ScalarType accumulation_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace megatron
