// The kernel behind fill_normal, plain pointers.
#pragma once

#include <cstdint>

namespace megatron::kernels {

// out[0..count) <- the elements first..first+count-1 of the stream `key`, times std. One thread.
// Element e takes the cosine (e % 32 < 16) or sine of the pair drawn with the counter
// (e / 32 * 16 + e % 16, 0), 64 bits wide.
template <typename T>
void normal_elements(uint64_t key, int64_t first, int64_t count, double std, T* out);

}  // namespace megatron::kernels
