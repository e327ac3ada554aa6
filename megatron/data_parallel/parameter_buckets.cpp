#include "megatron/data_parallel/parameter_buckets.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

at::ScalarType gradient_dtype(const Parameter& parameter, const BucketRules& rules) {
  const at::ScalarType dtype = parameter.data.scalar_type();
  return rules.grad_reduce_in_fp32 && dtype == at::kBFloat16 ? at::kFloat : dtype;
}

// Elements up to the end of the last slot.
int64_t filled(const BucketLayout& bucket) {
  if (bucket.slots.empty()) return 0;
  return bucket.slots.back().start + bucket.slots.back().parameter->data.numel();
}

}  // namespace

std::vector<ParameterPtr> parameters_of(const std::vector<ModuleGroup>& groups) {
  std::vector<ParameterPtr> all;
  std::set<const Parameter*> known;
  for (const ModuleGroup& group : groups) {
    for (const ParameterPtr& parameter : group.parameters) {
      if (known.insert(parameter.get()).second) all.push_back(parameter);
    }
  }
  return all;
}

DataParallelShardingStrategy sharding_strategy(const DistributedDataParallelConfig& config) {
  if (config.use_megatron_fsdp) return config.data_parallel_sharding_strategy;
  return config.use_distributed_optimizer ? DataParallelShardingStrategy::optim
                                          : DataParallelShardingStrategy::no_shard;
}

BucketRules::BucketRules(const DistributedDataParallelConfig& config, int data_parallel_size)
    : bucket_size(config.bucket_size.value_or(
          std::max<int64_t>(40'000'000, 1'000'000 * int64_t{data_parallel_size}))),
      grad_reduce_in_fp32(config.grad_reduce_in_fp32),
      shards(data_parallel_size),
      sharded(sharding_strategy(config) != DataParallelShardingStrategy::no_shard) {}

std::vector<BucketLayout> plan_buckets(const std::vector<ParameterPtr>& parameters,
                                       const BucketRules& rules) {
  constexpr int64_t kStart = 64;
  const int64_t end = rules.sharded ? std::lcm(int64_t{rules.shards}, int64_t{128}) : kStart;
  std::vector<BucketLayout> buckets;
  bool open = false;  // the last bucket accepts another parameter
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    const ParameterPtr& parameter = *it;
    const at::ScalarType dtype = parameter->data.scalar_type();
    const bool alone =
        (rules.sharded && parameter->shared_embedding) || parameter->gradient_is_deferred;
    if (!open || alone || buckets.back().dtype != dtype) {
      buckets.push_back({.slots = {},
                         .numel = 0,
                         .dtype = dtype,
                         .grad_dtype = gradient_dtype(*parameter, rules),
                         .device = parameter->data.device()});
    }
    BucketLayout& bucket = buckets.back();
    bucket.slots.push_back({parameter, round_up(filled(bucket), kStart)});
    bucket.numel = round_up(filled(bucket), end);
    open = !alone && filled(bucket) < rules.bucket_size;
  }
  return buckets;
}

}  // namespace megatron
