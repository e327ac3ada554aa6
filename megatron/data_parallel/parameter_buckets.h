// The layout of parameters in contiguous buckets (Megatron's param_and_grad_buffer.py).
#pragma once

#include "megatron/config/model/ddp_config.h"
#include "megatron/data_parallel/module_group.h"

namespace megatron {

struct BucketSlot {
  ParameterPtr parameter;
  int64_t start = 0;  // element of the bucket
};

// A range of a bucket that is sharded by itself: rank r owns the r-th run of `shard_numel` elements
// from `start` on.
struct BucketPiece {
  int64_t start = 0;
  int64_t shard_numel = 0;
};

enum class BucketSharding {
  none,
  contiguous,  // a rank owns one range of the bucket, which may cut parameters anywhere
  rows  // a rank owns rows of each parameter: ceil(rows / ranks), the last ranks fewer or none
};

// Parameters of one dtype in the order of their slots. Elements between slots and after the last
// one are padding.
struct BucketLayout {
  std::vector<BucketSlot> slots;
  int64_t numel = 0;  // with padding
  at::ScalarType dtype = at::kFloat, grad_dtype = at::kFloat;
  at::Device device = at::kCPU;
  BucketSharding sharding = BucketSharding::none;
  std::vector<BucketPiece> pieces = {};  // ascending: one if contiguous, one for each slot by rows
};

struct BucketRules {
  int64_t bucket_size = 0;  // elements; a bucket ends with the parameter that reaches it
  bool grad_reduce_in_fp32 = true;
  int shards = 1;  // data-parallel ranks
  BucketSharding sharding = BucketSharding::none;
  bool pads_for_bandwidth = false;  // contiguous shards: bucket ends are multiples of 2^16 too
  BucketRules(const DistributedDataParallelConfig& config, int data_parallel_size);
};

// The strategy that the options select: --use-distributed-optimizer is optim, --use-torch-fsdp2
// shards as much as optim_grads_params.
DataParallelShardingStrategy sharding_strategy(const DistributedDataParallelConfig& config);

// Fills buckets with `parameters` in reverse, about the order in which backward completes
// gradients. A parameter starts at a multiple of 64 elements. A bucket with contiguous shards ends
// at a multiple of lcm(shards, 128).
// Two kinds of parameters get a bucket of their own: a tied embedding where shards are contiguous,
// so that all stages with a copy shard it alike, and a parameter with a deferred gradient, so that
// it does not delay the reduction of others.
std::vector<BucketLayout> plan_buckets(const std::vector<ParameterPtr>& parameters,
                                       const BucketRules& rules);

}  // namespace megatron
