// Checks of batch sizes and of the micro-batch groups of the interleaved schedule.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

bool is_interleaved(const TransformerConfig& config) {
  if (config.pipeline_model_parallel_size < 2) return false;
  try {
    return PipelineLayout::of(config).chunks() > 1;
  } catch (const Error&) {
    return false;  // check_pipeline reports it
  }
}

}  // namespace

void check_microbatch_groups(const TransformerConfig& config, int64_t microbatches,
                             Problems& problems) {
  if (!config.pipeline.microbatch_group_size_per_vp_stage || !is_interleaved(config)) return;
  const int64_t stages = config.pipeline_model_parallel_size;
  const int64_t group = *config.pipeline.microbatch_group_size_per_vp_stage;
  const auto last_group_fits = [&](int64_t size) {
    const int64_t rest = microbatches % size;
    return rest == 0 || rest >= stages;
  };
  std::string advice = "leave it out";
  if (microbatches >= stages) {
    // The nearest valid size; a single group always works.
    const auto works = [&](int64_t size) {
      return size >= stages && size <= microbatches && last_group_fits(size);
    };
    const int64_t start = std::clamp(group, stages, microbatches);
    int64_t away = 0;
    while (!works(start + away) && !works(start - away)) ++away;
    advice = fmt::format("{} works", works(start + away) ? start + away : start - away);
  }
  const bool in_range = group >= stages && group <= microbatches;
  problems.expect(in_range,
                  "Expected --microbatch-group-size-per-virtual-pipeline-stage between "
                  "--pipeline-model-parallel-size ({}) and the {} micro-batches of a step, but got "
                  "{}; {}",
                  stages, microbatches, group, advice);
  if (!in_range) return;
  problems.expect(last_group_fits(group),
                  "Expected the last group of micro-batches to hold none or at least {} "
                  "(--pipeline-model-parallel-size) of the {}, but got {} with "
                  "--microbatch-group-size-per-virtual-pipeline-stage {}; {}, or leave it out",
                  stages, microbatches, microbatches % group, group, advice);
}

void check_batches(const Options& options, int world_size, Problems& problems) {
  const BatchConfig& batch = options.batch;
  const auto& t = options.model.transformer;
  const bool micro = problems.is_size("--micro-batch-size", batch.micro_batch_size);
  if (!batch.global_batch_size) {
    check_microbatch_groups(t, /*microbatches=*/1, problems);
    return;
  }
  const bool global = problems.is_size("--global-batch-size", *batch.global_batch_size);
  const int64_t tensor = t.tensor_model_parallel_size;
  const int64_t stages = t.pipeline_model_parallel_size, context = t.context_parallel_size;
  // check_world_size reports a layout that does not fit.
  const auto fits = [&](int64_t size) { return size >= 1 && size <= world_size; };
  if (!micro || !global || !fits(tensor) || !fits(stages) || !fits(context)) return;
  const int64_t model_ranks = tensor * stages * context;
  if (world_size % model_ranks != 0) return;
  const int64_t data_parallel = world_size / model_ranks;
  const int64_t at_once = batch.micro_batch_size * data_parallel;
  problems.expect(*batch.global_batch_size % at_once == 0,
                  "Expected --global-batch-size divisible by {} (--micro-batch-size {} x data "
                  "parallel {}), but got {}; a global batch of {} would work",
                  at_once, batch.micro_batch_size, data_parallel, *batch.global_batch_size,
                  nearest_multiples(at_once, *batch.global_batch_size));
  if (*batch.global_batch_size % at_once == 0)
    check_microbatch_groups(t, *batch.global_batch_size / at_once, problems);
}

}  // namespace megatron
