#include "megatron/data_parallel/fully_sharded_strategy.h"

namespace megatron {

FullyShardedStrategy::FullyShardedStrategy(const std::vector<ModuleGroup>& groups,
                                           const BucketRules& rules,
                                           ShardedGradients::Options gradients,
                                           ShardedParameters::Options parameters,
                                           const ProcessGroupPtr& data_parallel)
    : group_(data_parallel),
      units_(groups, rules),
      gradients_(units_, *group_, gradients),
      parameters_(units_, *group_, parameters),
      slices_(
          units_.layouts, *group_, [this](size_t bucket) { return parameters_.shard(bucket); },
          [this](size_t bucket) { return gradients_.shard(bucket); }),
      hooks_(groups, [this](size_t group) { return hooks_of(units_.unit_of_group[group]); }) {}

ForwardHooks FullyShardedStrategy::hooks_of(size_t unit) {
  ForwardHooks hooks;
  hooks.before = [this, unit] {
    const bool recomputation = is_in_backward();
    // A layer that is recomputed: the layer whose backward pass ran before is complete.
    if (unit != kNonLayerUnit && recomputation) gradients_.end_backward();
    parameters_.before_forward(unit, recomputation);
  };
  if (unit == kNonLayerUnit) return hooks;
  hooks.after = [this, unit](const at::Tensor& output) {
    call_at_backward_of(output, [this, unit] {
      gradients_.end_backward();
      parameters_.before_backward(unit);
      gradients_.begin_backward(unit);
    });
  };
  return hooks;
}

void FullyShardedStrategy::finish_gradients() {
  gradients_.finish();
  parameters_.reshard_all();
}

}  // namespace megatron
