#include "megatron/data_parallel/no_shard_strategy.h"

namespace megatron {

NoShardStrategy::NoShardStrategy(const std::vector<ModuleGroup>& groups,
                                 const DistributedDataParallelConfig& config,
                                 const ProcessGroupPtr& data_parallel)
    : group_(data_parallel),
      gradients_(plan_buckets(parameters_of(groups), {config, group_->size()}), *group_,
                 {.scatter = false,
                  .overlap = config.overlap_grad_reduce,
                  .check_for_nan = config.check_for_nan_in_grad}),
      slices_(full_slices(parameters_of(groups))) {}

}  // namespace megatron
