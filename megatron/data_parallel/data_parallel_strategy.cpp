#include "megatron/data_parallel/data_parallel_strategy.h"

#include "megatron/base/error.h"
#include "megatron/data_parallel/no_shard_strategy.h"
#include "megatron/data_parallel/optim_grads_params_strategy.h"
#include "megatron/data_parallel/optim_grads_strategy.h"
#include "megatron/data_parallel/optim_strategy.h"
#include "megatron/data_parallel/per_parameter_sharding_strategy.h"

namespace megatron {

std::unique_ptr<DataParallelStrategy> make_data_parallel_strategy(
    const std::vector<ModuleGroup>& groups, const DistributedDataParallelConfig& config,
    const ProcessGroupPtr& data_parallel) {
  if (config.use_torch_fsdp2)
    return std::make_unique<PerParameterShardingStrategy>(groups, config, data_parallel);
  switch (sharding_strategy(config)) {
    case DataParallelShardingStrategy::no_shard:
      return std::make_unique<NoShardStrategy>(groups, config, data_parallel);
    case DataParallelShardingStrategy::optim:
      return std::make_unique<OptimStrategy>(groups, config, data_parallel);
    case DataParallelShardingStrategy::optim_grads:
      return std::make_unique<OptimGradsStrategy>(groups, config, data_parallel);
    case DataParallelShardingStrategy::optim_grads_params:
      return std::make_unique<OptimGradsParamsStrategy>(groups, config, data_parallel);
  }
  fail("Expected a known data-parallel sharding strategy");
}

}  // namespace megatron
