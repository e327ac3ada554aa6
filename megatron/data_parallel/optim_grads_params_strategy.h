// optim_grads_params (ZeRO-3, Megatron's FSDP): each rank keeps a contiguous shard of every unit's
// parameters, gradients and optimizer state.
#pragma once

#include "megatron/data_parallel/fully_sharded_strategy.h"

namespace megatron {

class OptimGradsParamsStrategy final : public FullyShardedStrategy {
 public:
  OptimGradsParamsStrategy(const std::vector<ModuleGroup>& groups,
                           const DistributedDataParallelConfig& config,
                           const ProcessGroupPtr& data_parallel);
};

}  // namespace megatron
