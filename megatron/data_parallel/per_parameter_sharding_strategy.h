// use_torch_fsdp2: what PyTorch's fully_shard does. Each rank keeps rows of every parameter, of its
// gradient and of its optimizer state: ceil(rows / ranks) on dimension 0, the last ranks fewer or
// none. One all-gather and one reduce-scatter for each unit and dtype.
#pragma once

#include "megatron/data_parallel/fully_sharded_strategy.h"

namespace megatron {

class PerParameterShardingStrategy final : public FullyShardedStrategy {
 public:
  PerParameterShardingStrategy(const std::vector<ModuleGroup>& groups,
                               const DistributedDataParallelConfig& config,
                               const ProcessGroupPtr& data_parallel);
};

}  // namespace megatron
