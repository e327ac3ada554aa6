// The interface of the fill_normal kernel: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// Writes elements first..first+count-1 of the stream `key`, times std, to out. Single-threaded.
// Element e is the cosine (e % 32 < 16) or sine of the pair drawn with the 64-bit counter
// e / 32 * 16 + e % 16.
template <KernelLevel level, typename T>
void normal_elements(uint64_t key, int64_t first, int64_t count, double std, T* out);

}  // namespace megatron::kernels
