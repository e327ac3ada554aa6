#include "megatron/planner/layout_plan.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/human_bytes.h"
#include "megatron/base/integer_math.h"
#include "megatron/config/model/batch_size.h"
#include "megatron/models/common/builder_registry.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/planner/flops.h"
#include "megatron/planner/schedule_picture.h"

namespace megatron {
namespace {

// A backend with a size only, for models on the meta device. It cannot communicate.
class PlannedBackend final : public c10d::Backend {
 public:
  explicit PlannedBackend(int size) : Backend(/*rank=*/0, size) {}
  const std::string getBackendName() const override { return "planned"; }
};

ProcessGroupPtr planned_group(const char* name, int size, int rank) {
  std::vector<int> ranks(size);
  std::iota(ranks.begin(), ranks.end(), 0);
  return std::make_shared<ProcessGroup>(
      name, ranks, rank, c10::make_intrusive<PlannedBackend>(size), std::chrono::seconds(1));
}

// Of the first rank of a pipeline stage.
ProcessGroupCollection planned_groups(const ParallelSizes& sizes, int stage) {
  ProcessGroupCollection groups = ProcessGroupCollection::single_rank();
  groups.tp = planned_group("tp", sizes.tp, 0);
  groups.pp = planned_group("pp", sizes.pp, stage);
  groups.cp = planned_group("cp", sizes.cp, 0);
  groups.ep = planned_group("ep", sizes.ep, 0);
  groups.expt_tp = planned_group("expt_tp", sizes.expt_tp, 0);
  groups.tp_ep = planned_group("tp_ep", sizes.expt_tp * sizes.ep, 0);
  return groups;
}

// FLOPs per sequence of the modules that a pipeline layout places, as differences of model_flops().
struct ModuleFlops {
  explicit ModuleFlops(const GPTModelConfig& model) : moe(model.transformer.moe) {
    GPTModelConfig config = model;
    TransformerConfig& t = config.transformer;
    const int64_t depths = std::exchange(t.mtp.mtp_num_layers, 0);
    const bool last_has_experts = moe.is_moe_layer(t.num_layers);
    t.moe.moe_layer_freq = {1};
    t.num_layers = 1;
    const auto layer_and_output = [&](bool has_experts) {
      t.moe.num_moe_experts = has_experts ? moe.num_moe_experts : std::nullopt;
      return model_flops(config, 1);
    };
    const double one = layer_and_output(false);
    t.num_layers = 2;
    dense_layer = layer_and_output(false) - one;
    output = one - dense_layer;
    t.num_layers = 1;
    moe_layer = layer_and_output(moe.has_experts()) - output;
    t.mtp.mtp_num_layers = depths;
    mtp =
        layer_and_output(last_has_experts) - (last_has_experts ? moe_layer : dense_layer) - output;
    // The stage of the loss runs the output layer for every depth.
    mtp_output = output * double(depths);
    mtp -= mtp_output;
  }
  double of(const PipelineChunk& chunk) const {
    double layers = 0;
    for (int64_t i = chunk.first_layer; i < chunk.first_layer + chunk.num_layers; ++i)
      layers += moe.is_moe_layer(i + 1) ? moe_layer : dense_layer;
    return layers + (chunk.mtp ? mtp : 0) + (chunk.loss ? output + mtp_output : 0);
  }
  const MoeConfig& moe;
  double dense_layer, moe_layer, output;  // a layer of each kind; the output layer
  double mtp, mtp_output;  // all MTP depths: their layers; their passes through the output layer
};

// A line for a ramp of the batch size: the smallest step has the fewest micro-batches to fill the
// pipeline with.
std::string ramp_line(const LayoutPlan& plan, const Options& options) {
  if (plan.batch_sizes.empty()) return "";
  const int64_t at_once = options.batch.micro_batch_size * plan.sizes.dp;
  return fmt::format(
      "batch size: {} growing to {} in {} sizes over {} samples, {} step{}; the plan is for the "
      "last, the first has {} micro-batch{} per step\n",
      plan.batch_sizes.front(), plan.batch_sizes.back(), plan.batch_sizes.size(),
      options.batch.rampup_batch_size[2], plan.ramp_steps, plan.ramp_steps == 1 ? "" : "s",
      plan.batch_sizes.front() / at_once, plan.batch_sizes.front() == at_once ? "" : "es");
}

std::string percent(double share) {
  return fmt::format("{:.1f}%", 100 * share);
}

// Memory of a rank between steps, one line per stage.
std::string memory_table(const LayoutPlan& plan) {
  const auto mib = [](int64_t bytes) { return fmt::format("{:.1f}", double(bytes) / (1 << 20)); };
  std::string text = fmt::format("{:<15} {:>10} {:>10} {:>16} {:>10}\n", "MiB per rank", "weights",
                                 "gradients", "optimizer state", "total");
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const TrainingMemory& memory = plan.stages[i].memory;
    text += fmt::format("{:<15} {:>10} {:>10} {:>16} {:>10}\n", fmt::format("stage {}", i),
                        mib(memory.parameters), mib(memory.gradients), mib(memory.optimizer_state),
                        mib(memory.total()));
  }
  return text;
}

std::string schedule_name(const LayoutPlan& plan) {
  if (plan.stages.size() == 1) return plan.combined ? "combined 1F1B" : "no pipelining";
  const char* prefix = plan.combined ? "combined " : "";
  if (plan.chunks == 1) return fmt::format("{}1F1B", prefix);
  return fmt::format("{}interleaved 1F1B, {} chunks per rank, groups of {}", prefix, plan.chunks,
                     plan.group);
}

}  // namespace

LayoutPlan plan_layout(const Options& options, int world_size) {
  const TransformerConfig& config = options.model.transformer;
  const PipelineLayout layout = PipelineLayout::of(config);
  LayoutPlan plan;
  plan.sizes = parallel_sizes(config, world_size);
  plan.world_size = world_size;
  plan.chunks = layout.chunks();
  plan.combined = config.moe.overlap_moe_expert_parallel_comm;
  plan.microbatches = divide(global_batch_size(options.batch, plan.sizes.dp),
                             options.batch.micro_batch_size * plan.sizes.dp, "the global batch");
  if (const BatchSizeSchedule schedule(options.batch, plan.sizes.dp); schedule.ramps()) {
    plan.batch_sizes = schedule.batch_sizes();
    for (int64_t done = 0; schedule.batch_size(done) < schedule.final_batch_size();
         done += schedule.batch_size(done)) {
      ++plan.ramp_steps;
    }
  }
  plan.group = config.pipeline.microbatch_group_size_per_vp_stage.value_or(layout.stages());

  const ModuleFlops flops(options.model);
  const auto builder = make_builder<GPTModel>(options.model, BuildOptions{.device = at::kMeta});
  if (options.logging.verbose) plan.description = builder->description();
  double all_flops = 0;
  for (const PipelineChunk& chunk : layout.virtual_stages()) all_flops += flops.of(chunk);
  const int ranks_of_stage = world_size / layout.stages();
  for (int stage = 0; stage < layout.stages(); ++stage) {
    StagePlan planned{.first_rank = stage * ranks_of_stage,
                      .last_rank = (stage + 1) * ranks_of_stage - 1,
                      .holds = describe_stage(layout, stage, config.mtp.mtp_num_layers)};
    const ProcessGroupCollection groups = planned_groups(plan.sizes, stage);
    int64_t dense = 0, experts = 0;
    for (int chunk = 0; chunk < layout.chunks(); ++chunk) {
      const auto model = builder->build_model(groups, {}, {}, chunk);
      for (const ParameterPtr& parameter : model->parameters()) {
        if (parameter->is_buffer) continue;
        (parameter->expert ? experts : dense) += parameter->data.numel();
      }
      planned.flops_share += flops.of(layout.chunk(stage, chunk)) / all_flops;
    }
    // Data- and context-parallel ranks hold the same parameters and may shard them.
    const auto memory = [&](int64_t numel, int64_t ranks) {
      return planned_training_memory(numel, config.params_dtype, options.ddp,
                                     options.optimizer.optimizer, ranks);
    };
    planned.parameters = dense + experts;
    planned.memory = memory(dense, int64_t{plan.sizes.dp} * plan.sizes.cp);
    planned.memory += memory(experts, RankGrid(plan.sizes).expert_data_parallel_size());
    plan.stages.push_back(std::move(planned));
  }

  const PipelineSchedule schedule =
      make_schedule({.stages = layout.stages(),
                     .chunks = layout.chunks(),
                     .microbatches = plan.microbatches,
                     .group = config.pipeline.microbatch_group_size_per_vp_stage,
                     .combined = plan.combined});
  plan.timeline = time_schedule(schedule);
  plan.split_timeline = time_schedule(schedule, [&](int stage, const PipelineStep& step) {
    return unit_cost(stage, step) * flops.of(layout.chunk(stage, step.chunk)) / all_flops;
  });
  return plan;
}

std::string format_layout_plan(const LayoutPlan& plan, const Options& options) {
  const TransformerConfig& config = options.model.transformer;
  std::string text = fmt::format(
      "GPT, {} layers x {}, {} parameters{}, {}\nTP={}{} x PP={} x CP={} x DP={}{}{}, {} rank{}; {} "
      "micro-batch{} of {} x {} per step\n\n",
      config.num_layers, config.hidden_size, human_parameters(count_parameters(options.model)),
      config.moe.has_experts()
          ? fmt::format(" ({} active, {} of {} experts)",
                        human_parameters(count_active_parameters(options.model)),
                        config.moe.moe_router_topk, *config.moe.num_moe_experts)
          : "",
      dtype_name(config.params_dtype), plan.sizes.tp, config.sequence_parallel ? "+SP" : "",
      plan.sizes.pp, plan.sizes.cp, plan.sizes.dp, describe_sharing(options.ddp),
      config.moe.has_experts()
          ? fmt::format(", experts EP={} x ETP={} x DP={}", plan.sizes.ep, plan.sizes.expt_tp,
                        RankGrid(plan.sizes).expert_data_parallel_size())
          : "",
      plan.world_size, plan.world_size == 1 ? "" : "s", plan.microbatches,
      plan.microbatches == 1 ? "" : "es", options.batch.micro_batch_size, options.model.seq_length);
  size_t widest = 5;
  for (const StagePlan& stage : plan.stages) widest = std::max(widest, stage.holds.size());
  text += fmt::format("{:<6} {:<9} {:<{}} {:>12} {:>11}\n", "stage", "ranks", "holds", widest,
                      "parameters", "FLOPs");
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    const std::string ranks = stage.first_rank == stage.last_rank
                                  ? fmt::format("{}", stage.first_rank)
                                  : fmt::format("{}-{}", stage.first_rank, stage.last_rank);
    text += fmt::format("{:<6} {:<9} {:<{}} {:>12} {:>11}\n", i, ranks, stage.holds, widest,
                        human_parameters(stage.parameters), percent(stage.flops_share));
  }
  text += "\n" + memory_table(plan);
  if (!plan.description.empty()) text += "\n";
  for (const std::string& line : plan.description) text += line + "\n";
  const auto& largest = *std::ranges::max_element(plan.stages, {}, &StagePlan::flops_share);
  return text +
         fmt::format(
             "\nparameters are per rank; FLOPs are the stage's share of the model's\n"
             "memory is held between steps; activations and temporary buffers (gathered "
             "parameters, gradients that are not reduced yet) add to it\n"
             "{}schedule: {}\n"
             "bubble: {} of the ranks' time, if every chunk's backward takes twice its forward\n"
             "upper bound on efficiency: {} by the schedule alone\n"
             "                           {} with this split, if time follows FLOPs (the largest "
             "stage has {:.2f} times the mean)\n",
             ramp_line(plan, options), schedule_name(plan), percent(plan.timeline.bubble()),
             percent(plan.timeline.efficiency()), percent(plan.split_timeline.efficiency()),
             largest.flops_share * double(plan.stages.size()));
}

std::string draw_layout_plan(const LayoutPlan& plan) {
  PictureText text{.title = fmt::format(
                       "{}: {} micro-batch{} over {} stage{}, bubble {}", schedule_name(plan),
                       plan.microbatches, plan.microbatches == 1 ? "" : "es", plan.stages.size(),
                       plan.stages.size() == 1 ? "" : "s", percent(plan.timeline.bubble())),
                   .unit = "time, in units of a chunk's forward pass; numbers are micro-batches",
                   .stages = {}};
  for (const StagePlan& stage : plan.stages) {
    text.stages.push_back(stage.first_rank == stage.last_rank
                              ? fmt::format("rank {}", stage.first_rank)
                              : fmt::format("ranks {}-{}", stage.first_rank, stage.last_rank));
  }
  return schedule_picture(plan.timeline, text);
}

}  // namespace megatron
