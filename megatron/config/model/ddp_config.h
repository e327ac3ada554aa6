// Data parallelism over contiguous gradient buckets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace megatron {

// State that is sharded over the data-parallel ranks: ZeRO-1, -2 and -3 (Rajbhandari et al., 2020).
enum class DataParallelShardingStrategy { no_shard, optim, optim_grads, optim_grads_params };

struct DistributedDataParallelConfig {
  bool grad_reduce_in_fp32 = true;     // fp32 main gradients for bf16 parameters
  std::optional<int64_t> bucket_size;  // elements; default max(40e6, 1e6 * dp)
  bool overlap_grad_reduce = false;    // reduces buckets during the backward pass
  bool overlap_param_gather = false;   // gathers parameters during the next forward pass
  bool use_distributed_optimizer = false;
  bool use_megatron_fsdp = false;
  DataParallelShardingStrategy data_parallel_sharding_strategy =
      DataParallelShardingStrategy::no_shard;
};

// Suffix for "DP=2": " (distributed optimizer)", " (FSDP: optim_grads)", or empty without sharding.
std::string describe_sharing(const DistributedDataParallelConfig& config);

}  // namespace megatron
