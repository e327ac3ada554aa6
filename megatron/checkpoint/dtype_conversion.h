// Which conversions between data types keep every value.
#pragma once

#include <c10/core/ScalarType.h>

namespace megatron {

// Whether every value of `from` is also a value of `to` (same, or wider: bf16 to fp32, I32 to I64).
bool is_lossless_conversion(at::ScalarType from, at::ScalarType to);

}  // namespace megatron
