// Checks of DistributedDataParallelConfig.
#include "megatron/base/problems.h"
#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/enum_names.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

void check_fsdp(const DistributedDataParallelConfig& ddp, Problems& problems) {
  const Strategy strategy = ddp.data_parallel_sharding_strategy;
  problems.expect(
      !ddp.use_megatron_fsdp || !ddp.use_torch_fsdp2,
      "Expected use_megatron_fsdp=true or use_torch_fsdp2=true, but got both; leave one "
      "out");
  problems.expect(!ddp.use_torch_fsdp2 || !ddp.use_distributed_optimizer,
                  "Expected no use_distributed_optimizer=true with use_torch_fsdp2=true, which "
                  "shards the optimizer state by rows, but got both; leave one out");
  problems.expect(
      ddp.use_megatron_fsdp || strategy == Strategy::no_shard,
      "Expected use_megatron_fsdp=true with data_parallel_sharding_strategy={}, but got "
      "none; give both, or use_distributed_optimizer=true, which is optim",
      enum_name(strategy));
  problems.expect(
      !(ddp.use_megatron_fsdp && ddp.use_distributed_optimizer && strategy == Strategy::no_shard),
      "Expected data_parallel_sharding_strategy=optim, optim_grads or optim_grads_params with "
      "use_megatron_fsdp=true and use_distributed_optimizer=true, but got no_shard; optim is the "
      "distributed optimizer");
  problems.expect(ddp.use_torch_fsdp2 || ddp.torch_fsdp2_reshard_after_forward,
                  "Expected use_torch_fsdp2=true with torch_fsdp2_reshard_after_forward=false, but "
                  "got none; give both or neither");
}

void check_buckets(const DistributedDataParallelConfig& ddp, Problems& problems) {
  if (ddp.bucket_size) problems.at_least("bucket_size", *ddp.bucket_size, 1);
  if (ddp.num_buckets) problems.at_least("num_buckets", *ddp.num_buckets, 1);
  problems.expect(!ddp.bucket_size || !ddp.num_buckets,
                  "Expected bucket_size or num_buckets, but got both; leave one out");
  problems.expect(!ddp.pad_buckets_for_high_nccl_busbw ||
                      (shards_data_parallel_state(ddp) && !ddp.use_torch_fsdp2),
                  "Expected use_distributed_optimizer=true, or use_megatron_fsdp=true with a "
                  "data_parallel_sharding_strategy, with pad_buckets_for_high_nccl_busbw=true, but "
                  "got {}; leave it out",
                  ddp.use_torch_fsdp2 ? "shards by rows, which are not padded" : "no sharding");
}

}  // namespace

void check_data_parallel(const DistributedDataParallelConfig& ddp, Problems& problems) {
  check_fsdp(ddp, problems);
  check_buckets(ddp, problems);
  problems.expect(!ddp.overlap_param_gather || shards_data_parallel_state(ddp),
                  "Expected use_distributed_optimizer=true, or use_megatron_fsdp=true with a "
                  "data_parallel_sharding_strategy, or use_torch_fsdp2=true, with "
                  "overlap_param_gather=true, but got none; without sharding nothing is gathered: "
                  "leave it out");
  problems.expect(!ddp.overlap_param_gather || ddp.overlap_grad_reduce,
                  "Expected overlap_grad_reduce=true with overlap_param_gather=true, but got none; "
                  "give both or neither");
}

void check_data_parallel(const DistributedDataParallelConfig& ddp) {
  Problems problems;
  check_data_parallel(ddp, problems);
  problems.throw_if_any();
}

}  // namespace megatron
