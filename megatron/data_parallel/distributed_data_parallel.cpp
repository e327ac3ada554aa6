#include "megatron/data_parallel/distributed_data_parallel.h"

#include <limits>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/data_parallel/combined_strategy.h"

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

// The groups with only their experts, or without them.
std::vector<ModuleGroup> part_of(std::vector<ModuleGroup> groups, bool experts) {
  for (ModuleGroup& group : groups) {
    std::erase_if(group.parameters,
                  [&](const ParameterPtr& parameter) { return parameter->expert != experts; });
  }
  return groups;
}

}  // namespace

DistributedDataParallel::DistributedDataParallel(const std::vector<ModuleGroup>& groups,
                                                 const DistributedDataParallelConfig& config,
                                                 ProcessGroupPtr data_parallel,
                                                 bool disable_bucketing,
                                                 ProcessGroupPtr expert_data_parallel)
    : group_(std::move(data_parallel)), config_(config), parameters_(parameters_of(groups)) {
  const auto make = [&](const std::vector<ModuleGroup>& part, const ProcessGroupPtr& ranks) {
    return make_data_parallel_strategy(part, chunk_config(part, config, disable_bucketing), ranks);
  };
  const std::vector<ModuleGroup> experts = part_of(groups, /*experts=*/true);
  if (parameters_of(experts).empty()) {
    strategy_ = make(groups, group_);
    return;
  }
  check(expert_data_parallel != nullptr,
        "Expected the expert-data-parallel group of a model with experts, but got none");
  expert_group_ = std::move(expert_data_parallel);
  strategy_ = std::make_unique<CombinedStrategy>(make(part_of(groups, /*experts=*/false), group_),
                                                 make(experts, expert_group_));
}

void DistributedDataParallel::scale_gradients(double factor) {
  const at::NoGradGuard no_grad;
  for (const ParameterSlice& slice : owned_slices()) slice.main_grad.mul_(factor);
}

}  // namespace megatron
