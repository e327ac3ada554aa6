// The rate at which all threads together read memory: the bound of decode.
#pragma once

#include <cstdint>

namespace megatron {

// Bytes per second of the calling thread's team over `bytes` of memory, read in the way that decode
// reads weights: each thread its own contiguous part. The best of `repeats` passes. `bytes` should be
// far larger than the caches.
double measure_read_bandwidth(int64_t bytes, int repeats);

}  // namespace megatron
