// Data types by the names that flags use, and the rule for upcasting.
#pragma once

#include <string>
#include <string_view>

#include <c10/core/ScalarType.h>

namespace megatron {

// "fp32", "bf16", "fp16" or "fp64" (also "torch.bfloat16", "float32", ...). Throws Error on others.
at::ScalarType dtype_from_name(std::string_view name);

// The short name: fp32, bf16, fp16, fp64; int64, int32, int16, int8, uint8, bool.
std::string dtype_name(at::ScalarType dtype);

// The wider of fp32 and `dtype`: what Megatron writes as "upcast to fp32", so that fp64 stays fp64.
inline at::ScalarType accumulation_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace megatron
