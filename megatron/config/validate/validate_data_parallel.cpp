// The checks of how gradients, optimizer state and parameters are shared out over data-parallel
// ranks.
#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

// Of a layout that adds up; others are complained of elsewhere.
bool prediction_is_apart(const TransformerConfig& config) {
  try {
    return PipelineLayout::of(config).prediction_is_apart();
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
  const bool shares_update =
      ddp.use_megatron_fsdp ? strategy != Strategy::no_shard : ddp.use_distributed_optimizer;
  const TransformerConfig& model = options.model.transformer;
  problems.expect(!shares_update || model.mtp.mtp_num_layers == 0 || !prediction_is_apart(model),
                  "Expected prediction layers and loss (m and L) in one stage of "
                  "--pipeline-model-parallel-layout with parameters or optimizer state shared out "
                  "over data-parallel ranks, but got them apart; mL in one stage works");
  problems.expect(!ddp.overlap_param_gather || shares_update,
                  "Expected --use-distributed-optimizer, or --use-megatron-fsdp with a "
                  "--data-parallel-sharding-strategy, with --overlap-param-gather, but got none; "
                  "every rank has all parameters then: leave it out");
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
                    "gathers a layer when it runs; leave one out");
  }
}

}  // namespace megatron
