// What a linear layer needs beside libtorch's GEMMs: plain pointers.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

namespace megatron::kernels {

// sum[i] += values[i] in fp32, in one pass and whatever the number of threads.
void add_bf16(int64_t count, const c10::BFloat16* values, float* sum);

}  // namespace megatron::kernels
