// Data parallelism over contiguous gradient buckets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace megatron {

class Problems;

// State that is sharded over the data-parallel ranks: ZeRO-1, -2 and -3 (Rajbhandari et al., 2020).
enum class DataParallelShardingStrategy { no_shard, optim, optim_grads, optim_grads_params };

// Megatron's DistributedDataParallelConfig (core/distributed/) with its defaults. Fields of it that
// are missing here are refused by name.
struct DistributedDataParallelConfig {
  bool grad_reduce_in_fp32 = false;    // fp32 main gradients for bf16 parameters
  std::optional<int64_t> bucket_size;  // elements; default: max(40e6, 1e6 * dp) with
                                       // overlap_grad_reduce, else one bucket
  std::optional<int64_t> num_buckets;  // instead of bucket_size: at most so many in a model chunk
  bool pad_buckets_for_high_nccl_busbw = false;  // buckets are multiples of 2^16 elements
  bool overlap_grad_reduce = false;              // reduces buckets during the backward pass
  bool overlap_param_gather = false;             // gathers parameters during the next forward pass
  bool check_for_nan_in_grad = false;            // before each reduction
  bool use_distributed_optimizer = false;
  bool use_megatron_fsdp = false;
  DataParallelShardingStrategy data_parallel_sharding_strategy =
      DataParallelShardingStrategy::no_shard;
  bool use_torch_fsdp2 = false;  // shards each parameter by rows
  // Frees a layer's full parameters after its forward pass too, not only after backward.
  bool torch_fsdp2_reshard_after_forward = true;
};

// Whether the ranks shard the optimizer state, and perhaps more.
bool shards_data_parallel_state(const DistributedDataParallelConfig& config);
// Whether gradients are reduced while backward passes run.
bool reduces_during_backward(const DistributedDataParallelConfig& config);

// Adds invalid values and combinations. Messages name fields, as those of check_model().
void check_data_parallel(const DistributedDataParallelConfig& config, Problems& problems);
void check_data_parallel(const DistributedDataParallelConfig& config);  // throws Error

// Suffix for "DP=2": " (distributed optimizer)", " (FSDP: optim_grads)", " (torch FSDP2)", or empty
// without sharding.
std::string describe_sharing(const DistributedDataParallelConfig& config);

}  // namespace megatron
