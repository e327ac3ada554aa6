// What the strategies that shard optimizer state, gradients and parameters have in common. Where a
// shard of a parameter lies is up to the derived class.
#pragma once

#include "megatron/data_parallel/bucket_slices.h"
#include "megatron/data_parallel/data_parallel_strategy.h"
#include "megatron/data_parallel/module_hooks.h"
#include "megatron/data_parallel/sharded_gradients.h"
#include "megatron/data_parallel/sharded_parameters.h"

namespace megatron {

class FullyShardedStrategy : public DataParallelStrategy {
 public:
  const std::vector<ParameterSlice>& owned_slices() const override { return slices_.slices(); }

  void zero_gradients() override { gradients_.zero(); }
  void finish_gradients() override;
  void unshard_gradients() override { gradients_.unshard(); }

  void finish_update() override { parameters_.reshard_all(); }
  void unshard_parameters() override { parameters_.unshard_all(); }
  void reshard_parameters() override { parameters_.reshard_all(); }

 protected:
  FullyShardedStrategy(const std::vector<ModuleGroup>& groups, const BucketRules& rules,
                       ShardedGradients::Options gradients, ShardedParameters::Options parameters,
                       const ProcessGroupPtr& data_parallel);

 private:
  ForwardHooks hooks_of(size_t unit);

  ProcessGroupPtr group_;
  FsdpUnits units_;
  ShardedGradients gradients_;
  ShardedParameters parameters_;
  BucketSlices slices_;
  ModuleHooks hooks_;
};

}  // namespace megatron
