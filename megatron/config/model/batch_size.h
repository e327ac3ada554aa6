// The global batch size.
#pragma once

#include <cstdint>

#include "megatron/config/model/training_config.h"

namespace megatron {

// Samples per step: --global-batch-size, or by default one micro-batch per data-parallel rank.
int64_t global_batch_size(const BatchConfig& config, int64_t data_parallel_size);

}  // namespace megatron
