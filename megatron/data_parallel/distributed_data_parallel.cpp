#include "megatron/data_parallel/distributed_data_parallel.h"

#include <ATen/ATen.h>

namespace megatron {

DistributedDataParallel::DistributedDataParallel(const std::vector<ModuleGroup>& groups,
                                                 const DistributedDataParallelConfig& config,
                                                 ProcessGroupPtr data_parallel)
    : group_(std::move(data_parallel)),
      strategy_(make_data_parallel_strategy(groups, config, group_)) {}

void DistributedDataParallel::reduce_with_backward_of(const at::Tensor& output) {
  if (!output.requires_grad()) return;
  output.register_hook([this](const at::Tensor&) { strategy_->start_last_backward(); });
}

void DistributedDataParallel::scale_gradients(double factor) {
  const at::NoGradGuard no_grad;
  for (const ParameterSlice& slice : owned_slices()) slice.main_grad.mul_(factor);
}

}  // namespace megatron
