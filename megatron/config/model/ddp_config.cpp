#include "megatron/config/model/ddp_config.h"

#include <fmt/format.h>

#include "megatron/config/model/enum_names.h"

namespace megatron {

std::string describe_sharing(const DistributedDataParallelConfig& config) {
  if (config.use_megatron_fsdp) {
    const DataParallelShardingStrategy strategy = config.data_parallel_sharding_strategy;
    return fmt::format(
        " (FSDP: {}{})", enum_name(strategy),
        strategy == DataParallelShardingStrategy::no_shard ? ", nothing is sharded" : "");
  }
  return config.use_distributed_optimizer ? " (distributed optimizer)" : "";
}

}  // namespace megatron
