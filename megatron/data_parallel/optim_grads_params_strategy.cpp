#include "megatron/data_parallel/optim_grads_params_strategy.h"

namespace megatron {

OptimGradsParamsStrategy::OptimGradsParamsStrategy(const std::vector<ModuleGroup>& groups,
                                                   const DistributedDataParallelConfig& config,
                                                   const ProcessGroupPtr& data_parallel)
    : FullyShardedStrategy(
          groups, {config, data_parallel->size()},
          {.overlap = config.overlap_grad_reduce, .check_for_nan = config.check_for_nan_in_grad},
          {.prefetch = config.overlap_param_gather}, data_parallel) {}

}  // namespace megatron
