#include "megatron/data_parallel/optim_grads_strategy.h"

namespace megatron {

OptimGradsStrategy::OptimGradsStrategy(const std::vector<ModuleGroup>& groups,
                                       const DistributedDataParallelConfig& config,
                                       const ProcessGroupPtr& data_parallel)
    : group_(data_parallel),
      units_(groups, {config, group_->size()}),
      gradients_(
          units_, *group_,
          {.overlap = config.overlap_grad_reduce, .check_for_nan = config.check_for_nan_in_grad}),
      parameters_(units_.layouts, *group_, config.overlap_param_gather),
      slices_(
          units_.layouts, *group_, [this](size_t bucket) { return parameters_.shard(bucket); },
          [this](size_t bucket) { return gradients_.shard(bucket); }),
      hooks_(groups, [this, &groups](size_t group) {
        return hooks_of(groups[group], units_.unit_of_group[group]);
      }) {}

ForwardHooks OptimGradsStrategy::hooks_of(const ModuleGroup& group, size_t unit) {
  ForwardHooks hooks;
  hooks.before = [this, unit, read = group.parameters] {
    parameters_.wait_for(read);
    // A layer that is recomputed: the layer whose backward pass ran before is complete.
    if (unit != kNonLayerUnit && is_in_backward()) gradients_.end_backward();
  };
  if (unit == kNonLayerUnit) return hooks;
  hooks.after = [this, unit](const at::Tensor& output) {
    call_at_backward_of(output, [this, unit] { gradients_.begin_backward(unit); });
  };
  return hooks;
}

}  // namespace megatron
