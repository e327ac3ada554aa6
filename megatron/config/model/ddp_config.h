// Data parallelism over contiguous gradient buckets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace megatron {

// What the data-parallel ranks share out instead of each holding it whole: ZeRO-1, -2 and -3
// (Rajbhandari et al., 2020).
enum class DataParallelShardingStrategy { no_shard, optim, optim_grads, optim_grads_params };

struct DistributedDataParallelConfig {
  bool grad_reduce_in_fp32 =
      true;  // main gradients of bf16 parameters are kept and reduced in fp32
  std::optional<int64_t> bucket_size;  // elements; max(40e6, 1e6 * dp) where not given
  bool overlap_grad_reduce = false;    // buckets are reduced while backward goes on
  bool overlap_param_gather = false;   // parameters are gathered just ahead of the layers
  bool use_distributed_optimizer = false;
  bool use_megatron_fsdp = false;
  DataParallelShardingStrategy data_parallel_sharding_strategy =
      DataParallelShardingStrategy::no_shard;
};

// To stand behind "DP=2": " (distributed optimizer)", " (FSDP: optim_grads)", or nothing where
// every rank keeps all.
std::string describe_sharing(const DistributedDataParallelConfig& config);

}  // namespace megatron
