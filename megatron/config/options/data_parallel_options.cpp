// The table's part about gradients and parameters over data-parallel ranks.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kDdpCommands = commands(Command::train, Command::bench, Command::parity);
constexpr const char* kSection = "Data parallelism";

DistributedDataParallelConfig& ddp_of(Options& options) {
  return options.ddp;
}
OptimizerConfig& sharded_optimizer_of(Options& options) {
  return options.optimizer;
}

}  // namespace

void add_data_parallel_options(OptionTable& table) {
  using D = DistributedDataParallelConfig;
  const auto ddp = table.group(kSection, kDdpCommands, &ddp_of);
  ddp.add(&D::grad_reduce_in_fp32,
          {.flag = "grad-reduce-in-bf16",
           .help = "Keep and sum the gradients of bf16 parameters in bf16, not fp32",
           .field = "grad_reduce_in_fp32",
           .inverted = true});
  ddp.shorthand({.flag = "accumulate-allreduce-grads-in-fp32",
                 .help = "Keep and sum gradients in fp32, as by default here",
                 .sets = {{"grad_reduce_in_fp32", "true"}}});
  ddp.add(&D::bucket_size, {.flag = "ddp-bucket-size",
                            .help = "Size of a bucket of gradients that is reduced at once",
                            .unit = "elements",
                            .field = "bucket_size",
                            .otherwise = "max(40e6, 1e6 x data parallel size)"});
  ddp.add(&D::overlap_grad_reduce,
          {.flag = "overlap-grad-reduce",
           .help = "Sum a bucket of gradients while backward goes on, as soon as it is complete"});
  ddp.add(&D::use_distributed_optimizer,
          {.flag = "use-distributed-optimizer",
           .help = "Each data-parallel rank keeps and updates a slice of the optimizer's state "
                   "(ZeRO-1)"});
  ddp.add(&D::overlap_param_gather,
          {.flag = "overlap-param-gather",
           .help = "Gather updated parameters during the next forward pass, each before the layer "
                   "that reads it"});
  const auto optimizer = table.group(kSection, kDdpCommands, &sharded_optimizer_of);
  optimizer.add(&OptimizerConfig::overlap_param_gather_with_optimizer_step,
                {.flag = "overlap-param-gather-with-optimizer-step",
                 .help = "Start to gather a bucket as soon as it is updated, not when all are"});
  ddp.add(&D::use_megatron_fsdp,
          {.flag = "use-megatron-fsdp",
           .help = "Share out over the data-parallel ranks what the sharding strategy says"});
  ddp.add(&D::data_parallel_sharding_strategy,
          {.flag = "data-parallel-sharding-strategy",
           .help = "With --use-megatron-fsdp, what each rank keeps a slice of: nothing, the "
                   "optimizer's state (ZeRO-1), gradients too (ZeRO-2), parameters too (ZeRO-3)"});
}

}  // namespace megatron
