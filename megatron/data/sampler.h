// Assigns samples to data-parallel ranks: Megatron's sequential sampler.
#pragma once

#include <cstdint>
#include <vector>

namespace megatron {

// The micro-batch of rank dp_rank: its consecutive micro_batch_size samples of the micro_batch_size
// * dp_size samples after `consumed_samples` (MegatronPretrainingSampler). Throws Error for sizes
// below 1 and a rank out of range.
std::vector<int64_t> batch_sample_indices(int64_t consumed_samples, int64_t micro_batch_size,
                                          int64_t dp_rank, int64_t dp_size);

}  // namespace megatron
