#include "megatron/data_parallel/optim_strategy.h"

namespace megatron {

OptimStrategy::OptimStrategy(const std::vector<ModuleGroup>& groups,
                             const DistributedDataParallelConfig& config,
                             const ProcessGroupPtr& data_parallel)
    : OptimStrategy(groups, plan_buckets(parameters_of(groups), {config, data_parallel->size()}),
                    config, data_parallel) {}

OptimStrategy::OptimStrategy(const std::vector<ModuleGroup>& groups,
                             const std::vector<BucketLayout>& layouts,
                             const DistributedDataParallelConfig& config,
                             const ProcessGroupPtr& data_parallel)
    : group_(data_parallel),
      gradients_(layouts, *group_,
                 {.scatter = true,
                  .overlap = config.overlap_grad_reduce,
                  .check_for_nan = config.check_for_nan_in_grad}),
      parameters_(layouts, *group_, config.overlap_param_gather),
      slices_(
          layouts, *group_, [this](size_t bucket) { return parameters_.shard(bucket); },
          [this](size_t bucket) { return gradients_.shard(bucket); }),
      hooks_(groups, [this, &groups](size_t group) {
        return ForwardHooks{
            .before = [this, read = groups[group].parameters] { parameters_.wait_for(read); },
            .after = nullptr};
      }) {}

}  // namespace megatron
