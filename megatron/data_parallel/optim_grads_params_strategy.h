// optim_grads_params (ZeRO-3, Megatron's FSDP): each rank keeps a shard of the optimizer state, the
// gradients and the parameters.
#pragma once

#include "megatron/data_parallel/bucket_slices.h"
#include "megatron/data_parallel/data_parallel_strategy.h"
#include "megatron/data_parallel/module_hooks.h"
#include "megatron/data_parallel/sharded_gradients.h"
#include "megatron/data_parallel/sharded_parameters.h"

namespace megatron {

class OptimGradsParamsStrategy final : public DataParallelStrategy {
 public:
  OptimGradsParamsStrategy(const std::vector<ModuleGroup>& groups,
                           const DistributedDataParallelConfig& config,
                           const ProcessGroupPtr& data_parallel);

  const std::vector<ParameterSlice>& owned_slices() const override { return slices_.slices(); }

  void zero_gradients() override { gradients_.zero(); }
  void finish_gradients() override;
  void unshard_gradients() override { gradients_.unshard(); }

  void finish_update() override { parameters_.reshard_all(); }
  void unshard_parameters() override { parameters_.unshard_all(); }
  void reshard_parameters() override { parameters_.reshard_all(); }

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
