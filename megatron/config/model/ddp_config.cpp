#include "megatron/config/model/ddp_config.h"

#include <fmt/format.h>

#include "megatron/config/model/enum_names.h"

namespace megatron {

bool shards_data_parallel_state(const DistributedDataParallelConfig& config) {
  return config.use_torch_fsdp2 || config.use_distributed_optimizer ||
         (config.use_megatron_fsdp &&
          config.data_parallel_sharding_strategy != DataParallelShardingStrategy::no_shard);
}

bool reduces_during_backward(const DistributedDataParallelConfig& config) {
  return config.overlap_grad_reduce || config.use_torch_fsdp2 ||
         (config.use_megatron_fsdp &&
          config.data_parallel_sharding_strategy >= DataParallelShardingStrategy::optim_grads);
}

std::string describe_sharing(const DistributedDataParallelConfig& config) {
  if (config.use_megatron_fsdp) {
    const DataParallelShardingStrategy strategy = config.data_parallel_sharding_strategy;
    return fmt::format(
        " (FSDP: {}{})", enum_name(strategy),
        strategy == DataParallelShardingStrategy::no_shard ? ", nothing is sharded" : "");
  }
  if (config.use_torch_fsdp2) return " (torch FSDP2)";
  return config.use_distributed_optimizer ? " (distributed optimizer)" : "";
}

}  // namespace megatron
