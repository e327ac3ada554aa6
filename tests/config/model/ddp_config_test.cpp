// Descriptions of the sharding over data-parallel ranks.
#include "megatron/config/model/ddp_config.h"

#include <gtest/gtest.h>

namespace megatron {
namespace {

TEST(DescribeSharing, NamesTheShardingStrategy) {
  DistributedDataParallelConfig config;
  EXPECT_EQ(describe_sharing(config), "");
  config.use_distributed_optimizer = true;
  EXPECT_EQ(describe_sharing(config), " (distributed optimizer)");
  config = {.use_megatron_fsdp = true};
  EXPECT_EQ(describe_sharing(config), " (FSDP: no_shard, nothing is sharded)");
  config.data_parallel_sharding_strategy = DataParallelShardingStrategy::optim_grads_params;
  EXPECT_EQ(describe_sharing(config), " (FSDP: optim_grads_params)");
}

}  // namespace
}  // namespace megatron
