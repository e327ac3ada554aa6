// Sizes of batches, as the training loop, `bench` and the planner compute them.
#pragma once

#include <cstdint>

#include "megatron/config/model/training_config.h"

namespace megatron {

// Samples in a global batch: --global-batch-size, or one micro-batch for every data-parallel rank.
int64_t global_batch_size(const BatchConfig& config, int64_t data_parallel_size);

}  // namespace megatron
