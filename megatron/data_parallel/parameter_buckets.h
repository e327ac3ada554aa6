// How parameters are laid out in contiguous buckets (Megatron's param_and_grad_buffer.py).
#pragma once

#include "megatron/config/model/ddp_config.h"
#include "megatron/data_parallel/model_part.h"

namespace megatron {

struct BucketSlot {
  ParameterPtr parameter;
  int64_t start = 0;  // element of the bucket
};

// Parameters of one dtype, one after another; what is between them and behind the last is padding.
struct BucketLayout {
  std::vector<BucketSlot> slots;
  int64_t numel = 0;  // with padding
  at::ScalarType dtype = at::kFloat, grad_dtype = at::kFloat;
  at::Device device = at::kCPU;
};

struct BucketRules {
  int64_t bucket_size = 0;  // elements; a bucket ends with the parameter that reaches it
  bool grad_reduce_in_fp32 = true;
  int shards = 1;        // ranks that own a slice of each bucket
  bool sharded = false;  // then a slice is the same part of a tied embedding on all stages
  BucketRules(const DistributedDataParallelConfig& config, int data_parallel_size);
};

// What the options ask for: --use-distributed-optimizer is optim.
DataParallelShardingStrategy sharding_strategy(const DistributedDataParallelConfig& config);

// In reverse of the order of `parameters`, which is about the order in which gradients become
// final. A parameter starts at a multiple of 64 elements; a bucket of a sharded optimizer ends at
// one of lcm(shards, 128), and a tied embedding has one of its own there, so that stages that hold
// copies of it divide it alike. A parameter whose gradient is deferred has a bucket of its own too:
// it keeps no other from being reduced.
std::vector<BucketLayout> plan_buckets(const std::vector<ParameterPtr>& parameters,
                                       const BucketRules& rules);

}  // namespace megatron
