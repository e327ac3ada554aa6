// What a rank keeps of parameters, gradients and optimizer state between steps.
#pragma once

#include <cstdint>
#include <vector>

#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/optimizer_config.h"
#include "megatron/optimizer/optimizer.h"

namespace megatron {

struct TrainingMemory {  // bytes
  int64_t parameters = 0, gradients = 0, optimizer_state = 0;
  int64_t total() const { return parameters + gradients + optimizer_state; }
};

// The formula (Rajbhandari et al., 2020), for `numel` parameters of `dtype` on a rank of
// `data_parallel_size` that share them out as the options say, without padding. A parameter takes
// its dtype's bytes, a gradient 4 in bf16 (2 with --grad-reduce-in-bf16) or the parameter's own,
// Adam two moments and a master where the dtype is bf16, SGD one and the master.
TrainingMemory planned_training_memory(int64_t numel, at::ScalarType dtype,
                                       const DistributedDataParallelConfig& ddp,
                                       OptimizerType optimizer, int64_t data_parallel_size);

// The same, counted over the storages that are held now, padding included.
TrainingMemory held_training_memory(const std::vector<ParameterPtr>& parameters,
                                    Optimizer& optimizer);

}  // namespace megatron
