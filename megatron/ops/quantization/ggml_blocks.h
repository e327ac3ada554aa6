// Values of GGUF tensors: from ggml's blocks to floating point, and back for some types.
#pragma once

#include <cstddef>
#include <span>

#include <ATen/core/Tensor.h>

#include "megatron/ops/quantization/ggml_type.h"

namespace megatron {

// Writes the values of `blocks` to `out`, a contiguous CPU tensor of fp32, bf16 or fp16. In fp32 the
// values are exactly those of ggml's reference; bf16 and fp16 are these rounded to nearest. `blocks`
// has the size of out's elements. Runs on the intra-op threads.
void dequantize_ggml(GgmlType type, std::span<const std::byte> blocks, at::Tensor& out);

// Encodes `values` (floating point, contiguous, CPU, rows that ggml_row_bytes accepts) as F32, F16,
// BF16 or Q8_0 into `blocks`, bit for bit as ggml's reference does. Throws Error for other types, and
// for values that are too large for the type or not finite with Q8_0 and F16.
void quantize_ggml(GgmlType type, const at::Tensor& values, std::span<std::byte> blocks);

}  // namespace megatron
