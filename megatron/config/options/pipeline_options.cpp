// Options of pipeline parallelism and of the planner.
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
  split.add(
      &P::pipeline_model_parallel_layout,
      {.flag = "pipeline-model-parallel-layout",
       .help =
           "Content of each stage: E embedding, t layer, m MTP layer, L loss, | next stage; x*n "
           "and (...)*n repeat. More stages than ranks give virtual stages",
       .otherwise = "an even split"});
  split.add(&P::virtual_pipeline_model_parallel_size,
            {.flag = "num-virtual-stages-per-pipeline-rank",
             .help = "Model chunks per rank (interleaved schedule)",
             .unit = "chunks",
             .field = "virtual_pipeline_model_parallel_size",
             .otherwise = "1"});
  split.add(&P::num_layers_per_virtual_pipeline_stage,
            {.flag = "num-layers-per-virtual-pipeline-stage",
             .help = "Layers per model chunk, as an alternative to the number of virtual stages",
             .unit = "layers",
             .otherwise = "all layers of a rank"});
  split.add(&P::num_layers_in_first_pipeline_stage,
            {.flag = "decoder-first-pipeline-num-layers",
             .help = "Layers of the first stage; the others split the rest evenly",
             .unit = "layers",
             .field = "num_layers_in_first_pipeline_stage",
             .otherwise = "as the other stages"});
  split.add(&P::num_layers_in_last_pipeline_stage,
            {.flag = "decoder-last-pipeline-num-layers",
             .help = "Layers of the last stage; the others split the rest evenly",
             .unit = "layers",
             .field = "num_layers_in_last_pipeline_stage",
             .otherwise = "as the other stages"});
  split.add(&P::account_for_embedding_in_pipeline_split,
            {.flag = "account-for-embedding-in-pipeline-split",
             .help = "Count the embedding as a layer when splitting layers into stages"});
  split.add(&P::account_for_loss_in_pipeline_split,
            {.flag = "account-for-loss-in-pipeline-split",
             .help = "Count output layer and loss as a layer when splitting layers into stages"});
}

void add_transfers(OptionTable& table) {
  using P = PipelineConfig;
  const auto order = table.group(
      "Pipeline schedule", commands(Command::train, Command::bench, Command::parity, Command::plan),
      &pipeline_of);
  order.add(&P::microbatch_group_size_per_vp_stage,
            {.flag = "microbatch-group-size-per-virtual-pipeline-stage",
             .help = "Consecutive micro-batches of a model chunk in the interleaved schedule",
             .unit = "micro-batches",
             .field = "microbatch_group_size_per_vp_stage",
             .otherwise = "pipeline parallel size"});
  const auto transfers =
      table.group("Pipeline transfers", commands(Command::train, Command::bench, Command::parity),
                  &pipeline_of);
  transfers.add(&P::overlap_p2p_comm,
                {.flag = "no-overlap-p2p-communication",
                 .help = "Post a receive when its step starts, instead of two steps ahead",
                 .field = "overlap_p2p_comm",
                 .inverted = true});
  transfers.add(&P::deallocate_pipeline_outputs,
                {.flag = "no-deallocate-pipeline-outputs",
                 .help = "Keep the values of sent activations until their backward pass",
                 .field = "deallocate_pipeline_outputs",
                 .inverted = true});
  transfers.add(&P::variable_seq_lengths,
                {.flag = "variable-seq-lengths",
                 .help = "Send shapes between stages, so that micro-batches may differ in shape"});
}

}  // namespace

void add_pipeline_options(OptionTable& table) {
  add_split(table);
  add_transfers(table);
  const auto plan = table.group("Plan", commands(Command::plan), &plan_of);
  plan.add(&PlanConfig::world_size, {.flag = "world-size",
                                     .help = "Number of ranks of the planned run",
                                     .unit = "ranks",
                                     .otherwise = "--nproc, else TP x PP x CP"});
  plan.add(&PlanConfig::draw_schedule, {.flag = "draw-schedule",
                                        .help = "SVG file for a timeline of the schedule",
                                        .otherwise = "none"});
}

}  // namespace megatron
