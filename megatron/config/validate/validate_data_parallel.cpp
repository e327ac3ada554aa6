// Checks of data parallelism and of the sharding of gradients, optimizer state and parameters.
#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/options/fields_as_flags.h"
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
  const DistributedDataParallelConfig& ddp = options.ddp;
  Problems of_fields;
  check_data_parallel(ddp, of_fields);
  of_fields.rewrite_texts(fields_as_flags);
  problems.append(std::move(of_fields));
  const TransformerConfig& model = options.model.transformer;
  problems.expect(!shards_data_parallel_state(ddp) || model.mtp.mtp_num_layers == 0 ||
                      !has_standalone_mtp(model),
                  "Expected MTP layers and loss (m and L) in one stage of "
                  "--pipeline-model-parallel-layout with sharded parameters or optimizer state, "
                  "but got two stages; mL in one stage works");
  problems.expect(!model.moe.delay_wgrad_compute || !reduces_during_backward(ddp),
                  "Expected no --overlap-grad-reduce and no sharded gradients with "
                  "--delay-wgrad-compute, which completes weight gradients after their backward "
                  "pass, but got one; --use-distributed-optimizer works");
  if (options.optimizer.overlap_param_gather_with_optimizer_step) {
    problems.expect(ddp.overlap_param_gather,
                    "Expected --overlap-param-gather with "
                    "--overlap-param-gather-with-optimizer-step, but got none; give both or "
                    "neither");
    const bool gathers_before_use =
        ddp.use_torch_fsdp2 ||
        (ddp.use_megatron_fsdp &&
         ddp.data_parallel_sharding_strategy == DataParallelShardingStrategy::optim_grads_params);
    problems.expect(!gathers_before_use,
                    "Expected --data-parallel-sharding-strategy optim or optim_grads with "
                    "--overlap-param-gather-with-optimizer-step, but got {}, which gathers each "
                    "layer before its forward pass; leave one out",
                    ddp.use_torch_fsdp2 ? "--use-torch-fsdp2" : "optim_grads_params");
  }
}

}  // namespace megatron
