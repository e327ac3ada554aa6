// The interface of the kernels of ggml's blocks: plain pointers.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/quantization/ggml_type.h"

namespace megatron::kernels {

// out [blocks x block_values] = the values of `blocks` blocks of a quantized type.
template <KernelLevel level, typename T>
void dequantize_ggml_blocks(GgmlType type, const uint8_t* from, int64_t blocks, T* out);

// `blocks` blocks of Q8_0 from 32 finite values each.
template <KernelLevel level>
void quantize_q8_0(const float* from, int64_t blocks, uint8_t* to);

}  // namespace megatron::kernels
