// The tensors that can be quantized to low precision.
#pragma once

#include <string_view>

#include <ATen/core/Tensor.h>

#include "megatron/ops/core/dispatch.h"

namespace megatron {

// Checks for fp32, bf16 or fp16 on the CPU.
inline void check_quantizable(const at::Tensor& x, std::string_view operation) {
  check_floating(x, operation, "x");
  check(x.is_cpu() && x.scalar_type() != at::kDouble,
        "{}: Expected x of dtype fp32, bf16 or fp16 on the CPU, but got {} on {}", operation,
        dtype_name(x.scalar_type()), x.device().str());
}

// Calls body(T{}) for a dtype that check_quantizable accepts.
template <typename Body>
decltype(auto) dispatch_quantizable(at::ScalarType dtype, Body&& body) {
  if (dtype == at::kHalf) return body(c10::Half{});
  return dtype == at::kBFloat16 ? body(c10::BFloat16{}) : body(float{});
}

}  // namespace megatron
