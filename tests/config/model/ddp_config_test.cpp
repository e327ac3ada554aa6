// Descriptions of the sharding over data-parallel ranks.
#include "megatron/config/model/ddp_config.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(DescribeSharing, NamesTheShardingStrategy) {
  DistributedDataParallelConfig config;
  EXPECT_EQ(describe_sharing(config), "");
  config.use_distributed_optimizer = true;
  EXPECT_EQ(describe_sharing(config), " (distributed optimizer)");
  config = {.use_megatron_fsdp = true};
  EXPECT_EQ(describe_sharing(config), " (FSDP: no_shard, nothing is sharded)");
  config.data_parallel_sharding_strategy = Strategy::optim_grads_params;
  EXPECT_EQ(describe_sharing(config), " (FSDP: optim_grads_params)");
  EXPECT_EQ(describe_sharing({.use_torch_fsdp2 = true}), " (torch FSDP2)");
}

TEST(ShardsDataParallelState, HoldsForEveryStrategyButNoShard) {
  EXPECT_FALSE(shards_data_parallel_state({}));
  EXPECT_FALSE(shards_data_parallel_state({.use_megatron_fsdp = true}));
  EXPECT_TRUE(shards_data_parallel_state({.use_distributed_optimizer = true}));
  EXPECT_TRUE(shards_data_parallel_state({.use_torch_fsdp2 = true}));
  EXPECT_TRUE(shards_data_parallel_state(
      {.use_megatron_fsdp = true, .data_parallel_sharding_strategy = Strategy::optim}));
}

struct RefusedDdpConfig {
  DistributedDataParallelConfig config;
  const char* message;
};

TEST(CheckDataParallel, RefusesWhatCannotWork) {
  const RefusedDdpConfig refused[] = {
      {{.use_megatron_fsdp = true, .use_torch_fsdp2 = true},
       "use_megatron_fsdp=true or use_torch_fsdp2=true, but got both"},
      {{.use_distributed_optimizer = true, .use_torch_fsdp2 = true},
       "no use_distributed_optimizer=true with use_torch_fsdp2=true"},
      {{.data_parallel_sharding_strategy = Strategy::optim, .use_torch_fsdp2 = true},
       "use_megatron_fsdp=true with data_parallel_sharding_strategy=optim"},
      {{.torch_fsdp2_reshard_after_forward = false},
       "use_torch_fsdp2=true with torch_fsdp2_reshard_after_forward=false"},
      {{.use_distributed_optimizer = true, .use_megatron_fsdp = true}, "but got no_shard"},
      {{.bucket_size = 0}, "bucket_size of at least 1, but got 0"},
      {{.num_buckets = 0}, "num_buckets of at least 1, but got 0"},
      {{.bucket_size = 5, .num_buckets = 5}, "bucket_size or num_buckets, but got both"},
      {{.pad_buckets_for_high_nccl_busbw = true}, "but got no sharding; leave it out"},
      {{.pad_buckets_for_high_nccl_busbw = true, .use_torch_fsdp2 = true},
       "but got shards by rows, which are not padded"},
      {{.overlap_grad_reduce = true, .overlap_param_gather = true},
       "without sharding nothing is gathered"},
      {{.overlap_param_gather = true, .use_torch_fsdp2 = true},
       "overlap_grad_reduce=true with overlap_param_gather=true"},
  };
  for (const RefusedDdpConfig& one : refused) {
    EXPECT_THAT([&] { check_data_parallel(one.config); },
                ThrowsMessage<Error>(HasSubstr(one.message)))
        << one.message;
  }
  for (const DistributedDataParallelConfig& accepted :
       {DistributedDataParallelConfig{},
        {.num_buckets = 3, .overlap_grad_reduce = true},
        {.pad_buckets_for_high_nccl_busbw = true, .use_distributed_optimizer = true},
        {.overlap_grad_reduce = true, .overlap_param_gather = true, .use_torch_fsdp2 = true},
        {.use_torch_fsdp2 = true, .torch_fsdp2_reshard_after_forward = false}}) {
    EXPECT_NO_THROW(check_data_parallel(accepted));
  }
}

}  // namespace
}  // namespace megatron
