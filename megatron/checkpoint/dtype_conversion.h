// Lossless conversions between data types.
#pragma once

#include <c10/core/ScalarType.h>

namespace megatron {

// Whether `to` represents every value of `from` (bf16 to fp32, int32 to int64).
bool is_lossless_conversion(at::ScalarType from, at::ScalarType to);

}  // namespace megatron
