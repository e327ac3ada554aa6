// no_shard: every rank keeps everything; gradients are all-reduced.
#pragma once

#include "megatron/data_parallel/data_parallel_strategy.h"
#include "megatron/data_parallel/gradient_reduction.h"

namespace megatron {

class NoShardStrategy final : public DataParallelStrategy {
 public:
  NoShardStrategy(const std::vector<ModuleGroup>& groups,
                  const DistributedDataParallelConfig& config,
                  const ProcessGroupPtr& data_parallel);

  bool is_sharded() const override { return false; }
  const std::vector<ParameterSlice>& owned_slices() const override { return slices_; }

  void zero_gradients() override { gradients_.zero(); }
  void start_last_backward() override { gradients_.start_last_backward(); }
  void finish_gradients() override { gradients_.finish(); }
  void unshard_gradients() override {}

 private:
  ProcessGroupPtr group_;
  GradientReduction gradients_;
  std::vector<ParameterSlice> slices_;
};

}  // namespace megatron
