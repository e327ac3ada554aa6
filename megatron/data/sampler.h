// Which samples a data-parallel rank takes in a micro-batch: Megatron's sequential sampler.
#pragma once

#include <cstdint>
#include <vector>

namespace megatron {

// Of the next micro_batch_size * dp_size samples after `consumed_samples`, rank dp_rank takes its
// run of micro_batch_size (MegatronPretrainingSampler). Throws Error on sizes below 1 or a rank
// outside.
std::vector<int64_t> batch_sample_indices(int64_t consumed_samples, int64_t micro_batch_size,
                                          int64_t dp_rank, int64_t dp_size);

}  // namespace megatron
