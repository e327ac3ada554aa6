// What a linear layer needs beside libtorch's GEMMs: plain pointers.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

namespace megatron::kernels {

// sum[i] += values[i] in fp32; several times as fast as ATen's addition of mixed dtypes.
void add_bf16(int64_t count, const c10::BFloat16* values, float* sum);

}  // namespace megatron::kernels
