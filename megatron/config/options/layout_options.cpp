// Options of parallel sizes, precision, recomputation and launch.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

LowPrecisionConfig& low_precision_of(Options& options) {
  return options.model.transformer.low_precision;
}
TransformerConfig& parallel_of(Options& options) {
  return options.model.transformer;
}
RecomputeConfig& recompute_of(Options& options) {
  return options.model.transformer.recompute;
}
LaunchConfig& launch_of(Options& options) {
  return options.launch;
}

void add_parallelism(OptionTable& table) {
  using T = TransformerConfig;
  const auto group = table.group("Parallelism", kLayoutCommands, &parallel_of);
  group.add(&T::tensor_model_parallel_size,
            {.flag = "tensor-model-parallel-size",
             .help = "Tensor parallel (TP) size; the remaining ranks form the data parallel group",
             .unit = "ranks"});
  group.add(&T::pipeline_model_parallel_size,
            {.flag = "pipeline-model-parallel-size",
             .help = "Pipeline parallel (PP) size: number of stages",
             .unit = "ranks"});
  group.add(&T::context_parallel_size,
            {.flag = "context-parallel-size",
             .help = "Context parallel (CP) size: ranks that share each sequence",
             .unit = "ranks"});
  group.add(
      &T::cp_comm_type,
      {.flag = "cp-comm-type",
       .help =
           "Communication of context parallel attention: keys and values in a ring (p2p), "
           "all-to-all of heads and sequence (a2a), or all-gather of keys and values (allgather)"});
  group.add(&T::expert_model_parallel_size,
            {.flag = "expert-model-parallel-size",
             .help = "Expert parallel (EP) size: ranks that share the experts of a layer",
             .unit = "ranks"});
  group.add(
      &T::sequence_parallel,
      {.flag = "sequence-parallel",
       .help =
           "Shard norms, dropout and residuals over the tensor parallel ranks along the sequence"});
}

void add_precision(OptionTable& table) {
  using T = TransformerConfig;
  const auto group = table.group("Precision", kLayoutCommands, &parallel_of);
  group.add(&T::bf16,
            {.flag = "bf16", .help = "Train in bf16, with fp32 master weights and main gradients"});
  group.add(&T::fp16, {.flag = "fp16",
                       .help = "Train in fp16, with fp32 master weights and main gradients, and a "
                               "scaled loss"});
  table.group("Precision", kLayoutCommands | commands(Command::convert), &parallel_of)
      .add(&T::params_dtype,
           {.flag = "params-dtype",
            .help = "Data type of the parameters; bf16 is the same as --bf16, fp16 as --fp16"});
  group.add(
      &T::pipeline_dtype,
      {.flag = "pipeline-dtype",
       .help = "Data type of activations sent between pipeline stages; only --params-dtype works",
       .otherwise = "--params-dtype"});
  using L = LowPrecisionConfig;
  const auto fp8 = table.group("FP8", commands(Command::train, Command::bench), &low_precision_of);
  fp8.add(
      &L::fp8,
      {.flag = "fp8-format",
       .help = "Multiply in FP8 in the linear layers of transformer layers: e4m3, or hybrid, "
               "with gradients in e5m2. Embeddings, attention and output layer stay as they are",
       .field = "fp8",
       .otherwise = "no FP8"});
  fp8.add(&L::fp8_recipe,
          {.flag = "fp8-recipe",
           .help = "Scales: one a tensor from earlier steps (delayed) or from the tensor itself "
                   "(tensorwise), one per 1 x 128 or 128 x 128 (blockwise), one per 32 (mxfp8)"});
  fp8.add(&L::fp8_margin, {.flag = "fp8-margin",
                           .help = "With delayed: scales are multiplied by 2^-margin",
                           .unit = "binary exponents"});
  fp8.add(&L::fp8_amax_history_len,
          {.flag = "fp8-amax-history-len",
           .help = "With delayed: length of the history of largest magnitudes",
           .unit = "iterations"});
  fp8.add(&L::fp8_amax_compute_algo,
          {.flag = "fp8-amax-compute-algo",
           .help = "With delayed: the scale follows from the last step or the history's maximum"});
  fp8.add(&L::first_last_layers_bf16,
          {.flag = "first-last-layers-bf16",
           .help = "With FP8: keep the first and last layers in high precision"});
  fp8.add(&L::num_layers_at_start_in_bf16,
          {.flag = "num-layers-at-start-in-bf16",
           .help = "With --first-last-layers-bf16: how many at the start",
           .unit = "layers"});
  fp8.add(&L::num_layers_at_end_in_bf16,
          {.flag = "num-layers-at-end-in-bf16",
           .help = "With --first-last-layers-bf16: how many at the end",
           .unit = "layers"});
  group.add(&T::cuda_graph_impl,
            {.flag = "cuda-graph-impl", .help = "CUDA graphs; only none works"});
}

void add_recomputation(OptionTable& table) {
  using R = RecomputeConfig;
  const auto group =
      table.group("Recomputation of activations",
                  commands(Command::train, Command::bench, Command::parity), &recompute_of);
  group.add(&R::recompute_granularity,
            {.flag = "recompute-granularity",
             .help = "Recompute activations in the backward pass: of whole layers (full), or of "
                     "--recompute-modules (selective)",
             .otherwise = "no recomputation"});
  group.shorthand({.flag = "recompute-activations",
                   .help = "Same as --recompute-granularity selective",
                   .sets = {{"recompute_granularity", "selective"}}});
  group.add(
      &R::recompute_method,
      {.flag = "recompute-method",
       .help =
           "With full: recompute all layers in groups of --recompute-num-layers (uniform), or the "
           "first --recompute-num-layers layers of each stage (block)",
       .otherwise = "none"});
  group.add(&R::recompute_num_layers, {.flag = "recompute-num-layers",
                                       .help = "Number of layers for --recompute-method",
                                       .unit = "layers",
                                       .otherwise = "none"});
  group.add(
      &R::recompute_modules,
      {.flag = "recompute-modules",
       .help = "With selective, any of: core_attn, layernorm, mlp, mla_up_proj, moe, moe_act, "
               "shared_experts",
       .otherwise = "core_attn"});
}

void add_launch(OptionTable& table) {
  using L = LaunchConfig;
  const auto group =
      table.group("Launch", kRunCommands, &launch_of,
                  {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  group.add(&L::nproc, {.flag = "nproc",
                        .help = "Number of ranks to start on this machine, without torchrun",
                        .unit = "ranks",
                        .otherwise = "from torchrun, SLURM or Open MPI, else 1"});
  group.add(&L::threads_as_ranks, {.flag = "threads-as-ranks",
                                   .help = "With --nproc: run ranks as threads of one process"});
  group.add(&L::device, {.flag = "device", .help = "Device to run on", .choices = {"cpu", "cuda"}});
  group.add(&L::threads, {.flag = "threads",
                          .help = "Compute threads per rank",
                          .unit = "threads",
                          .otherwise = "OMP_NUM_THREADS, else cores / local ranks"});
  group.add(&L::master_addr,
            {.flag = "master-addr", .help = "With --nproc: address of the rendezvous store"});
  group.add(&L::master_port, {.flag = "master-port",
                              .help = "With --nproc: port of the rendezvous store",
                              .unit = "port",
                              .otherwise = "a free port"});
  group.add(&L::distributed_timeout_minutes,
            {.flag = "distributed-timeout-minutes",
             .help = "Timeout of collectives; a rank that waits longer ends the run",
             .unit = "minutes"});
}

}  // namespace

void add_layout_options(OptionTable& table) {
  add_parallelism(table);
  add_precision(table);
  add_recomputation(table);
  add_data_parallel_options(table);
  add_launch(table);
}

}  // namespace megatron
