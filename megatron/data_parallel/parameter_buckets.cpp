#include "megatron/data_parallel/parameter_buckets.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

constexpr int64_t kSlotAlignment = 64;  // elements

at::ScalarType gradient_dtype(const Parameter& parameter, const BucketRules& rules) {
  const at::ScalarType dtype = parameter.data.scalar_type();
  const bool half = dtype == at::kBFloat16 || dtype == at::kHalf;
  return rules.grad_reduce_in_fp32 && half ? at::kFloat : dtype;
}

// Elements up to the end of the last slot.
int64_t filled(const BucketLayout& bucket) {
  if (bucket.slots.empty()) return 0;
  return bucket.slots.back().start + bucket.slots.back().parameter->data.numel();
}

// Elements of a rank's rows, as torch.chunk on dimension 0 divides them. A parameter without
// dimensions is one row.
int64_t row_shard_numel(const at::Tensor& data, int shards) {
  if (data.dim() == 0) return 1;
  const int64_t rows = data.size(0);
  return rows == 0 ? 0 : ceil_div(rows, int64_t{shards}) * (data.numel() / rows);
}

// Elements up to the end of the last slot, with the padding of its rows.
int64_t reserved(const BucketLayout& bucket, const BucketRules& rules) {
  if (bucket.sharding != BucketSharding::rows || bucket.pieces.empty()) return filled(bucket);
  return bucket.pieces.back().start + rules.shards * bucket.pieces.back().shard_numel;
}

// A bucket ends at a multiple of this many elements.
int64_t end_multiple(const BucketRules& rules) {
  if (rules.sharding != BucketSharding::contiguous) return kSlotAlignment;
  const int64_t multiple = std::lcm(int64_t{rules.shards}, int64_t{128});
  return rules.pads_for_bandwidth ? std::lcm(multiple, int64_t{1} << 16) : multiple;
}

BucketSharding bucket_sharding(const DistributedDataParallelConfig& config) {
  if (config.use_torch_fsdp2) return BucketSharding::rows;
  return sharding_strategy(config) == DataParallelShardingStrategy::no_shard
             ? BucketSharding::none
             : BucketSharding::contiguous;
}

// Megatron's default: without overlap, one bucket has the fewest collectives.
int64_t default_bucket_size(const DistributedDataParallelConfig& config, int data_parallel_size) {
  if (!config.overlap_grad_reduce) return std::numeric_limits<int64_t>::max();
  return std::max<int64_t>(40'000'000, 1'000'000 * int64_t{data_parallel_size});
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
  if (config.use_torch_fsdp2) return DataParallelShardingStrategy::optim_grads_params;
  if (config.use_megatron_fsdp) return config.data_parallel_sharding_strategy;
  return config.use_distributed_optimizer ? DataParallelShardingStrategy::optim
                                          : DataParallelShardingStrategy::no_shard;
}

BucketRules::BucketRules(const DistributedDataParallelConfig& config, int data_parallel_size)
    : bucket_size(config.bucket_size.value_or(default_bucket_size(config, data_parallel_size))),
      grad_reduce_in_fp32(config.grad_reduce_in_fp32),
      shards(data_parallel_size),
      sharding(bucket_sharding(config)),
      pads_for_bandwidth(config.pad_buckets_for_high_nccl_busbw) {}

std::vector<BucketLayout> plan_buckets(const std::vector<ParameterPtr>& parameters,
                                       const BucketRules& rules) {
  std::vector<BucketLayout> buckets;
  bool open = false;  // the last bucket accepts another parameter
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    const ParameterPtr& parameter = *it;
    const at::ScalarType dtype = parameter->data.scalar_type();
    const bool alone =
        (rules.sharding == BucketSharding::contiguous && parameter->shared_embedding) ||
        parameter->gradient_is_deferred;
    if (!open || alone || buckets.back().dtype != dtype) {
      buckets.push_back({.slots = {},
                         .numel = 0,
                         .dtype = dtype,
                         .grad_dtype = gradient_dtype(*parameter, rules),
                         .device = parameter->data.device(),
                         .sharding = rules.sharding});
    }
    BucketLayout& bucket = buckets.back();
    bucket.slots.push_back({parameter, round_up(reserved(bucket, rules), kSlotAlignment)});
    if (rules.sharding == BucketSharding::rows) {
      bucket.pieces.push_back(
          {bucket.slots.back().start, row_shard_numel(parameter->data, rules.shards)});
    }
    bucket.numel = round_up(reserved(bucket, rules), end_multiple(rules));
    if (rules.sharding == BucketSharding::contiguous)
      bucket.pieces = {{.start = 0, .shard_numel = bucket.numel / rules.shards}};
    open = !alone && filled(bucket) < rules.bucket_size;
  }
  return buckets;
}

}  // namespace megatron
