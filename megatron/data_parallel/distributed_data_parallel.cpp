#include "megatron/data_parallel/distributed_data_parallel.h"

#include <limits>

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

// The configuration of one chunk, with num_buckets as a bucket size.
DistributedDataParallelConfig chunk_config(const std::vector<ModuleGroup>& groups,
                                           DistributedDataParallelConfig config,
                                           bool disable_bucketing) {
  check_data_parallel(config);
  if (config.num_buckets) {
    int64_t numel = 0;
    for (const ParameterPtr& parameter : parameters_of(groups)) numel += parameter->data.numel();
    config.bucket_size = std::max<int64_t>(ceil_div(numel, *config.num_buckets), 1);
    config.num_buckets.reset();
  }
  if (disable_bucketing) config.bucket_size = std::numeric_limits<int64_t>::max();
  return config;
}

}  // namespace

DistributedDataParallel::DistributedDataParallel(const std::vector<ModuleGroup>& groups,
                                                 const DistributedDataParallelConfig& config,
                                                 ProcessGroupPtr data_parallel,
                                                 bool disable_bucketing)
    : group_(std::move(data_parallel)),
      strategy_(make_data_parallel_strategy(groups, chunk_config(groups, config, disable_bucketing),
                                            group_)) {}

void DistributedDataParallel::reduce_with_backward_of(const at::Tensor& output) {
  if (!output.requires_grad()) return;
  output.register_hook([this](const at::Tensor&) { strategy_->start_last_backward(); });
}

void DistributedDataParallel::scale_gradients(double factor) {
  const at::NoGradGuard no_grad;
  for (const ParameterSlice& slice : owned_slices()) slice.main_grad.mul_(factor);
}

}  // namespace megatron
