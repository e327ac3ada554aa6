// The layout of parameters in contiguous buckets (Megatron's param_and_grad_buffer.py).
#pragma once

#include "megatron/config/model/ddp_config.h"
#include "megatron/data_parallel/module_group.h"

namespace megatron {

struct BucketSlot {
  ParameterPtr parameter;
  int64_t start = 0;  // element of the bucket
};

// Parameters of one dtype in the order of their slots. Elements between slots and after the last
// one are padding.
struct BucketLayout {
  std::vector<BucketSlot> slots;
  int64_t numel = 0;  // with padding
  at::ScalarType dtype = at::kFloat, grad_dtype = at::kFloat;
  at::Device device = at::kCPU;
};

struct BucketRules {
  int64_t bucket_size = 0;  // elements; a bucket ends with the parameter that reaches it
  bool grad_reduce_in_fp32 = true;
  int shards = 1;        // data-parallel ranks
  bool sharded = false;  // each rank owns one shard of every bucket
  BucketRules(const DistributedDataParallelConfig& config, int data_parallel_size);
};

// The strategy that the options select: --use-distributed-optimizer is optim.
DataParallelShardingStrategy sharding_strategy(const DistributedDataParallelConfig& config);

// Fills buckets with `parameters` in reverse, about the order in which backward completes
// gradients. A parameter starts at a multiple of 64 elements. A sharded bucket ends at a multiple
// of lcm(shards, 128).
// Two kinds of parameters get a bucket of their own: a tied embedding in sharded buckets, so that
// all stages with a copy shard it alike, and a parameter with a deferred gradient, so that it does
// not delay the reduction of others.
std::vector<BucketLayout> plan_buckets(const std::vector<ParameterPtr>& parameters,
                                       const BucketRules& rules);

}  // namespace megatron
