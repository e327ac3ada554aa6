// The table's part about pipeline stages: how layers are shared out, the order of micro-batches,
// what passes between stages; and the plan of it.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

PipelineConfig& pipeline_of(Options& options) {
  return options.model.transformer.pipeline;
}
PlanConfig& plan_of(Options& options) {
  return options.plan;
}

void add_split(OptionTable& table) {
  using P = PipelineConfig;
  const auto split = table.group("Pipeline stages", kLayoutCommands, &pipeline_of);
  split.add(&P::pipeline_model_parallel_layout,
            {.flag = "pipeline-model-parallel-layout",
             .help = "What each stage holds: E embedding, t layer, m prediction layer, L loss, | "
                     "next stage, x*n and (...)*n repeat; a multiple of the ranks makes virtual "
                     "stages",
             .otherwise = "an even split"});
  split.add(&P::virtual_pipeline_model_parallel_size,
            {.flag = "num-virtual-stages-per-pipeline-rank",
             .help = "Chunks of layers on each rank: the interleaved schedule",
             .unit = "chunks",
             .field = "virtual_pipeline_model_parallel_size",
             .otherwise = "1"});
  split.add(&P::num_layers_per_virtual_pipeline_stage,
            {.flag = "num-layers-per-virtual-pipeline-stage",
             .help = "The same, by the layers of a chunk",
             .unit = "layers",
             .otherwise = "all of a rank"});
  split.add(&P::num_layers_in_first_pipeline_stage,
            {.flag = "decoder-first-pipeline-num-layers",
             .help = "Layers of the first rank; the others share the rest",
             .unit = "layers",
             .field = "num_layers_in_first_pipeline_stage",
             .otherwise = "as the others"});
  split.add(&P::num_layers_in_last_pipeline_stage, {.flag = "decoder-last-pipeline-num-layers",
                                                    .help = "Layers of the last rank",
                                                    .unit = "layers",
                                                    .field = "num_layers_in_last_pipeline_stage",
                                                    .otherwise = "as the others"});
  split.add(&P::account_for_embedding_in_pipeline_split,
            {.flag = "account-for-embedding-in-pipeline-split",
             .help = "Count the embedding as a layer of the first stage"});
  split.add(&P::account_for_loss_in_pipeline_split,
            {.flag = "account-for-loss-in-pipeline-split",
             .help = "Count output layer and loss as a layer of the last stage"});
}

void add_transfers(OptionTable& table) {
  using P = PipelineConfig;
  const auto order = table.group(
      "Pipeline schedule", commands(Command::train, Command::bench, Command::parity, Command::plan),
      &pipeline_of);
  order.add(&P::microbatch_group_size_per_vp_stage,
            {.flag = "microbatch-group-size-per-virtual-pipeline-stage",
             .help = "Micro-batches that pass through a chunk in a row",
             .unit = "micro-batches",
             .field = "microbatch_group_size_per_vp_stage",
             .otherwise = "pipeline parallel size"});
  const auto transfers =
      table.group("Pipeline transfers", commands(Command::train, Command::bench, Command::parity),
                  &pipeline_of);
  transfers.add(&P::overlap_p2p_comm,
                {.flag = "no-overlap-p2p-communication",
                 .help = "Begin to receive when a step needs it, not two steps ahead",
                 .field = "overlap_p2p_comm",
                 .inverted = true});
  transfers.add(&P::deallocate_pipeline_outputs,
                {.flag = "no-deallocate-pipeline-outputs",
                 .help = "Keep the values of activations that were sent until their backward",
                 .field = "deallocate_pipeline_outputs",
                 .inverted = true});
  transfers.add(&P::variable_seq_lengths,
                {.flag = "variable-seq-lengths",
                 .help = "Micro-batches may differ in shape: the first stage tells the others"});
}

}  // namespace

void add_pipeline_options(OptionTable& table) {
  add_split(table);
  add_transfers(table);
  const auto plan = table.group("Plan", commands(Command::plan), &plan_of);
  plan.add(&PlanConfig::world_size, {.flag = "world-size",
                                     .help = "Ranks of the run that is planned",
                                     .unit = "ranks",
                                     .otherwise = "--nproc, else one copy of the model"});
  plan.add(&PlanConfig::draw_schedule,
           {.flag = "draw-schedule",
            .help = "File for a picture (SVG) of who computes what when",
            .otherwise = "none"});
}

}  // namespace megatron
