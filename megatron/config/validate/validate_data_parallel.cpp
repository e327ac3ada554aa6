// Checks of data parallelism and of the sharding of gradients, optimizer state and parameters.
#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

// False for an invalid layout, which check_pipeline reports.
bool has_standalone_mtp(const TransformerConfig& config) {
  try {
    return PipelineLayout::of(config).mtp_standalone();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void check_data_parallel(const Options& options, Problems& problems) {
  using Strategy = DataParallelShardingStrategy;
  const DistributedDataParallelConfig& ddp = options.ddp;
  const Strategy strategy = ddp.data_parallel_sharding_strategy;
  if (ddp.bucket_size) problems.at_least("--ddp-bucket-size", *ddp.bucket_size, 1);
  problems.expect(ddp.use_megatron_fsdp || strategy == Strategy::no_shard,
                  "Expected --use-megatron-fsdp with --data-parallel-sharding-strategy {}, but got "
                  "none; give both, or --use-distributed-optimizer, which is optim",
                  enum_name(strategy));
  problems.expect(
      !(ddp.use_megatron_fsdp && ddp.use_distributed_optimizer && strategy == Strategy::no_shard),
      "Expected --data-parallel-sharding-strategy optim, optim_grads or optim_grads_params with "
      "--use-megatron-fsdp and --use-distributed-optimizer, but got no_shard; optim is the "
      "distributed optimizer");
  const bool sharded =
      ddp.use_megatron_fsdp ? strategy != Strategy::no_shard : ddp.use_distributed_optimizer;
  const TransformerConfig& model = options.model.transformer;
  problems.expect(!sharded || model.mtp.mtp_num_layers == 0 || !has_standalone_mtp(model),
                  "Expected MTP layers and loss (m and L) in one stage of "
                  "--pipeline-model-parallel-layout with sharded parameters or optimizer state, "
                  "but got two stages; mL in one stage works");
  problems.expect(!ddp.overlap_param_gather || sharded,
                  "Expected --use-distributed-optimizer, or --use-megatron-fsdp with a "
                  "--data-parallel-sharding-strategy, with --overlap-param-gather, but got none; "
                  "without sharding nothing is gathered: leave it out");
  problems.expect(!ddp.overlap_param_gather || ddp.overlap_grad_reduce,
                  "Expected --overlap-grad-reduce with --overlap-param-gather, but got none; give "
                  "both or neither");
  if (options.optimizer.overlap_param_gather_with_optimizer_step) {
    problems.expect(ddp.overlap_param_gather,
                    "Expected --overlap-param-gather with "
                    "--overlap-param-gather-with-optimizer-step, but got none; give both or "
                    "neither");
    problems.expect(!ddp.use_megatron_fsdp || strategy != Strategy::optim_grads_params,
                    "Expected --data-parallel-sharding-strategy optim or optim_grads with "
                    "--overlap-param-gather-with-optimizer-step, but got optim_grads_params, which "
                    "gathers each layer before its forward pass; leave one out");
  }
}

}  // namespace megatron
