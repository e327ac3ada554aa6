// Memory of parameters, gradients and optimizer state that a rank holds between steps.
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
  TrainingMemory& operator+=(const TrainingMemory& other) {
    parameters += other.parameters;
    gradients += other.gradients;
    optimizer_state += other.optimizer_state;
    return *this;
  }
};

// By formula (Rajbhandari et al., 2020), without padding, for `numel` parameters of `dtype` that
// `data_parallel_size` ranks hold or shard. Gradients have the dtype of the parameters, or fp32 for
// bf16 parameters without --grad-reduce-in-bf16. Adam keeps two fp32 moments and SGD one, in fp64
// for fp64 parameters; bf16 parameters have an fp32 master too.
TrainingMemory planned_training_memory(int64_t numel, at::ScalarType dtype,
                                       const DistributedDataParallelConfig& ddp,
                                       OptimizerType optimizer, int64_t data_parallel_size);

// Counted over the allocated storages, with padding.
TrainingMemory held_training_memory(const std::vector<ParameterPtr>& parameters,
                                    Optimizer& optimizer);

}  // namespace megatron
