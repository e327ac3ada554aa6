// optim (ZeRO-1, Megatron's distributed optimizer): each rank updates a shard of every bucket.
// Gradients are reduce-scattered in place, and updated parameters are gathered.
#pragma once

#include "megatron/data_parallel/bucket_slices.h"
#include "megatron/data_parallel/data_parallel_strategy.h"
#include "megatron/data_parallel/gradient_reduction.h"
#include "megatron/data_parallel/module_hooks.h"
#include "megatron/data_parallel/parameter_gather.h"

namespace megatron {

class OptimStrategy final : public DataParallelStrategy {
 public:
  OptimStrategy(const std::vector<ModuleGroup>& groups, const DistributedDataParallelConfig& config,
                const ProcessGroupPtr& data_parallel);

  const std::vector<ParameterSlice>& owned_slices() const override { return slices_.slices(); }

  void zero_gradients() override { gradients_.zero(); }
  void start_last_backward() override { gradients_.start_last_backward(); }
  void finish_gradients() override { gradients_.finish(); }
  void unshard_gradients() override { gradients_.all_gather(); }

  void slices_updated(size_t count) override {
    parameters_.start_down_to(slices_.updated_down_to(count));
  }
  void finish_update() override { parameters_.finish_update(); }
  void wait_for_parameters() override { parameters_.wait_for_all(); }

 private:
  OptimStrategy(const std::vector<ModuleGroup>& groups, const std::vector<BucketLayout>& layouts,
                const DistributedDataParallelConfig& config, const ProcessGroupPtr& data_parallel);

  ProcessGroupPtr group_;
  GradientReduction gradients_;
  ParameterGather parameters_;
  BucketSlices slices_;
  ModuleHooks hooks_;
};

}  // namespace megatron
