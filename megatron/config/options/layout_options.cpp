// The table's part about ranks and numbers: parallel sizes, precision, launch.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

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
             .help = "Ranks that share every layer (TP); data parallelism takes what is left of "
                     "the world",
             .unit = "ranks"});
  group.add(&T::pipeline_model_parallel_size, {.flag = "pipeline-model-parallel-size",
                                               .help = "Stages that share out the layers (PP)",
                                               .unit = "ranks"});
  group.add(&T::context_parallel_size, {.flag = "context-parallel-size",
                                        .help = "Ranks that share every sequence (CP)",
                                        .unit = "ranks"});
  group.add(&T::cp_comm_type,
            {.flag = "cp-comm-type",
             .help = "How attention sees the keys of other ranks: in a ring (p2p), heads exchanged "
                     "against sequence (a2a), or all gathered (allgather)"});
  group.add(&T::expert_model_parallel_size, {.flag = "expert-model-parallel-size",
                                             .help = "Ranks that share experts; only 1 works",
                                             .unit = "ranks"});
  group.add(&T::sequence_parallel,
            {.flag = "sequence-parallel",
             .help = "Split norms and dropout over the tensor parallel ranks, along the sequence"});
}

void add_precision(OptionTable& table) {
  using T = TransformerConfig;
  const auto group = table.group("Precision", kLayoutCommands, &parallel_of);
  group.add(&T::bf16, {.flag = "bf16",
                       .help = "Parameters and activations in bf16, optimizer and main gradients "
                               "in fp32"});
  group.add(&T::params_dtype, {.flag = "params-dtype",
                               .help = "Data type of the parameters; bf16 is the same as --bf16"});
  group.add(&T::pipeline_dtype,
            {.flag = "pipeline-dtype",
             .help = "Data type of what passes between stages; only that of the parameters works",
             .otherwise = "that of the parameters"});
  group.add(&T::cuda_graph_impl,
            {.flag = "cuda-graph-impl", .help = "Replay captured CUDA graphs; only none works"});
}

void add_recomputation(OptionTable& table) {
  using R = RecomputeConfig;
  const auto group =
      table.group("Recomputation of activations",
                  commands(Command::train, Command::bench, Command::parity), &recompute_of);
  group.add(&R::recompute_granularity,
            {.flag = "recompute-granularity",
             .help = "Compute again in backward: whole layers (full) or --recompute-modules "
                     "(selective)",
             .otherwise = "keep everything"});
  group.shorthand({.flag = "recompute-activations",
                   .help = "The same as --recompute-granularity selective",
                   .sets = {{"recompute_granularity", "selective"}}});
  group.add(
      &R::recompute_method,
      {.flag = "recompute-method",
       .help = "With full: groups of --recompute-num-layers layers (uniform), or the first so "
               "many layers of a stage one by one (block)",
       .otherwise = "none"});
  group.add(&R::recompute_num_layers, {.flag = "recompute-num-layers",
                                       .help = "Layers of that",
                                       .unit = "layers",
                                       .otherwise = "none"});
  group.add(&R::recompute_modules,
            {.flag = "recompute-modules",
             .help = "With selective: core_attn, layernorm, mlp, mla_up_proj",
             .otherwise = "core_attn"});
}

void add_launch(OptionTable& table) {
  using L = LaunchConfig;
  const auto group =
      table.group("Launch", kRunCommands, &launch_of,
                  {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  group.add(&L::nproc, {.flag = "nproc",
                        .help = "Start this many ranks on this machine, without torchrun",
                        .unit = "ranks",
                        .otherwise = "what torchrun, SLURM or Open MPI say, else 1"});
  group.add(&L::threads_as_ranks,
            {.flag = "threads-as-ranks", .help = "With --nproc: ranks as threads of this process"});
  group.add(&L::device, {.flag = "device", .help = "Where to compute", .choices = {"cpu", "cuda"}});
  group.add(&L::threads, {.flag = "threads",
                          .help = "Compute threads of a rank",
                          .unit = "threads",
                          .otherwise = "OMP_NUM_THREADS, else cores / local ranks"});
  group.add(&L::master_addr,
            {.flag = "master-addr", .help = "Address where the ranks meet, with --nproc"});
  group.add(&L::master_port, {.flag = "master-port",
                              .help = "Port where the ranks meet, with --nproc",
                              .unit = "port",
                              .otherwise = "a free one"});
  group.add(&L::distributed_timeout_minutes,
            {.flag = "distributed-timeout-minutes",
             .help = "A rank that waits longer for others gives up and ends the run",
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
