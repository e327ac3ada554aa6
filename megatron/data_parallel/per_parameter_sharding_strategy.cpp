#include "megatron/data_parallel/per_parameter_sharding_strategy.h"

namespace megatron {

PerParameterShardingStrategy::PerParameterShardingStrategy(
    const std::vector<ModuleGroup>& groups, const DistributedDataParallelConfig& config,
    const ProcessGroupPtr& data_parallel)
    : FullyShardedStrategy(
          groups, {config, data_parallel->size()},
          {.overlap = config.overlap_grad_reduce, .check_for_nan = config.check_for_nan_in_grad},
          {.prefetch = config.overlap_param_gather,
           .reshard_after_forward = config.torch_fsdp2_reshard_after_forward},
          data_parallel) {}

}  // namespace megatron
