// Options of data parallelism.
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
           .help = "Accumulate and reduce gradients of bf16 parameters in bf16 instead of fp32",
           .field = "grad_reduce_in_fp32",
           .inverted = true});
  ddp.shorthand({.flag = "accumulate-allreduce-grads-in-fp32",
                 .help = "Accumulate and reduce gradients in fp32, the default here",
                 .sets = {{"grad_reduce_in_fp32", "true"}}});
  ddp.add(&D::bucket_size, {.flag = "ddp-bucket-size",
                            .help = "Size of a gradient bucket",
                            .unit = "elements",
                            .field = "bucket_size",
                            .otherwise = "max(40e6, 1e6 x data parallel size) with "
                                         "--overlap-grad-reduce, else unlimited"});
  ddp.add(&D::num_buckets,
          {.flag = "ddp-num-buckets",
           .help = "Instead of --ddp-bucket-size: divide a model chunk into at most so many",
           .unit = "buckets",
           .field = "num_buckets"});
  ddp.add(&D::pad_buckets_for_high_nccl_busbw,
          {.flag = "ddp-pad-buckets-for-high-nccl-busbw",
           .help = "Pad sharded buckets to multiples of 2^16 elements, which NCCL sends faster",
           .field = "pad_buckets_for_high_nccl_busbw"});
  ddp.add(&D::overlap_grad_reduce,
          {.flag = "overlap-grad-reduce",
           .help = "Reduce each gradient bucket during the backward pass, once it is complete"});
  ddp.add(&D::check_for_nan_in_grad,
          {.flag = "check-for-nan-in-grad",
           .help = "Stop at a NaN or infinite gradient before its reduction, and name the rank and "
                   "the parameter; otherwise the optimizer skips the step"});
  ddp.add(&D::use_distributed_optimizer,
          {.flag = "use-distributed-optimizer",
           .help = "Shard the optimizer state over the data parallel ranks (ZeRO-1)"});
  ddp.add(
      &D::overlap_param_gather,
      {.flag = "overlap-param-gather",
       .help = "All-gather updated parameters during the next forward pass, each before the layer "
               "that needs it"});
  const auto optimizer = table.group(kSection, kDdpCommands, &sharded_optimizer_of);
  optimizer.add(&OptimizerConfig::overlap_param_gather_with_optimizer_step,
                {.flag = "overlap-param-gather-with-optimizer-step",
                 .help = "Start the all-gather of a bucket as soon as it is updated"});
  ddp.add(
      &D::use_megatron_fsdp,
      {.flag = "use-megatron-fsdp",
       .help =
           "Fully sharded data parallelism (FSDP); the sharding strategy selects what is sharded"});
  ddp.add(
      &D::data_parallel_sharding_strategy,
      {.flag = "data-parallel-sharding-strategy",
       .help =
           "With --use-megatron-fsdp: shard nothing, the optimizer state (ZeRO-1), also gradients "
           "(ZeRO-2), or also parameters (ZeRO-3)"});
  ddp.add(&D::use_torch_fsdp2,
          {.flag = "use-torch-fsdp2",
           .help = "Fully sharded data parallelism as PyTorch's fully_shard: each parameter, its "
                   "gradient and its optimizer state are divided by rows (dimension 0)"});
  ddp.add(&D::torch_fsdp2_reshard_after_forward,
          {.flag = "torch-fsdp2-no-reshard-after-forward",
           .help = "With --use-torch-fsdp2: keep a layer's full parameters from its forward to its "
                   "backward pass (more memory, no second gather)",
           .field = "torch_fsdp2_reshard_after_forward",
           .inverted = true});
}

}  // namespace megatron
