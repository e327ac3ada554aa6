// optim_grads (ZeRO-2): each rank keeps a shard of the optimizer state and of the gradients.
// Parameters are complete on every rank and gathered after their update.
#pragma once

#include "megatron/data_parallel/bucket_slices.h"
#include "megatron/data_parallel/data_parallel_strategy.h"
#include "megatron/data_parallel/module_hooks.h"
#include "megatron/data_parallel/parameter_gather.h"
#include "megatron/data_parallel/sharded_gradients.h"

namespace megatron {

class OptimGradsStrategy final : public DataParallelStrategy {
 public:
  OptimGradsStrategy(const std::vector<ModuleGroup>& groups,
                     const DistributedDataParallelConfig& config,
                     const ProcessGroupPtr& data_parallel);

  const std::vector<ParameterSlice>& owned_slices() const override { return slices_.slices(); }

  void zero_gradients() override { gradients_.zero(); }
  void finish_gradients() override { gradients_.finish(); }
  void unshard_gradients() override { gradients_.unshard(); }

  void slices_updated(size_t count) override {
    parameters_.start_down_to(slices_.updated_down_to(count));
  }
  void finish_update() override { parameters_.finish_update(); }
  void wait_for_parameters() override { parameters_.wait_for_all(); }

 private:
  ForwardHooks hooks_of(const ModuleGroup& group, size_t unit);

  ProcessGroupPtr group_;
  FsdpUnits units_;
  ShardedGradients gradients_;
  ParameterGather parameters_;
  BucketSlices slices_;
  ModuleHooks hooks_;
};

}  // namespace megatron
