// Checks of batch sizes and of the micro-batch groups of the interleaved schedule.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/model/batch_size.h"
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

namespace {

// Whether there is a ramp whose numbers make sense.
bool check_ramp(const BatchConfig& batch, Problems& problems) {
  const std::vector<int64_t>& ramp = batch.rampup_batch_size;
  if (ramp.empty()) return false;
  const bool complete = ramp.size() == 3;
  problems.expect(complete,
                  "Expected three numbers for --rampup-batch-size (first batch size, increment, "
                  "samples), but got {}; 16 16 100000 works",
                  ramp.size());
  if (!complete) return false;
  const bool sizes = problems.is_size("the first batch size of --rampup-batch-size", ramp[0]) &&
                     problems.is_size("the increment of --rampup-batch-size", ramp[1]);
  const bool samples = problems.at_least("the samples of --rampup-batch-size", ramp[2], 1);
  problems.expect(batch.global_batch_size.has_value(),
                  "Expected --global-batch-size with --rampup-batch-size, which grows to it, but "
                  "got none; {} is one increment",
                  ramp[0] + ramp[1]);
  if (!sizes || !samples || !batch.global_batch_size) return false;
  const int64_t range = *batch.global_batch_size - ramp[0];
  problems.expect(range > 0,
                  "Expected --rampup-batch-size to begin below --global-batch-size ({}), but got "
                  "{}; leave it out for a constant size",
                  *batch.global_batch_size, ramp[0]);
  if (range <= 0) return false;
  problems.expect(range % ramp[1] == 0,
                  "Expected --global-batch-size less the first size of --rampup-batch-size ({}) "
                  "divisible by its increment, but got {}; an increment of {} would work",
                  range, ramp[1], nearest_divisors(range, ramp[1]));
  return range % ramp[1] == 0;
}

// Whether every size of the ramp, all increments from its first, is a multiple of `at_once`.
bool ramp_divides(const BatchConfig& batch, int64_t at_once, int64_t data_parallel,
                  Problems& problems) {
  const int64_t first = batch.rampup_batch_size[0], increment = batch.rampup_batch_size[1];
  const bool divides = first % at_once == 0 && increment % at_once == 0;
  problems.expect(
      divides,
      "Expected the first size and the increment of --rampup-batch-size divisible by {} "
      "(--micro-batch-size {} x data parallel {}), but got {} and {}; {} and {} would work, or "
      "--decrease-batch-size-if-needed, which rounds sizes down",
      at_once, batch.micro_batch_size, data_parallel, first, increment,
      first % at_once == 0 ? fmt::format("{}", first) : nearest_multiples(at_once, first),
      increment % at_once == 0 ? fmt::format("{}", increment)
                               : nearest_multiples(at_once, increment));
  return divides;
}

// The micro-batch groups in steps of every size.
void check_groups_of_sizes(const BatchConfig& batch, int64_t data_parallel,
                           const TransformerConfig& config, Problems& problems) {
  for (const int64_t size : BatchSizeSchedule(batch, data_parallel).batch_sizes()) {
    Problems of_size;
    check_microbatch_groups(config, size / (batch.micro_batch_size * data_parallel), of_size);
    const bool first = !of_size.empty();
    problems.append(std::move(of_size));
    if (first) return;  // one size is enough to report
  }
}

}  // namespace

void check_batches(const Options& options, int world_size, Problems& problems) {
  const BatchConfig& batch = options.batch;
  const auto& t = options.model.transformer;
  const bool micro = problems.is_size("--micro-batch-size", batch.micro_batch_size);
  const bool ramp = check_ramp(batch, problems);
  if (!ramp && !batch.rampup_batch_size.empty()) return;  // its sizes are unknown
  if (!batch.global_batch_size) {
    problems.expect(!batch.decrease_batch_size_if_needed,
                    "Expected --global-batch-size with --decrease-batch-size-if-needed, but got "
                    "none; leave the latter out");
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
  if (batch.decrease_batch_size_if_needed) {
    const int64_t smallest =
        ramp ? batch.rampup_batch_size.front() : batch.global_batch_size.value();
    problems.expect(smallest >= at_once,
                    "Expected global batch sizes of at least {} (--micro-batch-size {} x data "
                    "parallel {}) with --decrease-batch-size-if-needed, but got {}; {} would work",
                    at_once, batch.micro_batch_size, data_parallel, smallest, at_once);
    if (smallest >= at_once) check_groups_of_sizes(batch, data_parallel, t, problems);
    return;
  }
  problems.expect(*batch.global_batch_size % at_once == 0,
                  "Expected --global-batch-size divisible by {} (--micro-batch-size {} x data "
                  "parallel {}), but got {}; a global batch of {} would work",
                  at_once, batch.micro_batch_size, data_parallel, *batch.global_batch_size,
                  nearest_multiples(at_once, *batch.global_batch_size));
  const bool divides = !ramp || ramp_divides(batch, at_once, data_parallel, problems);
  if (*batch.global_batch_size % at_once == 0 && divides)
    check_groups_of_sizes(batch, data_parallel, t, problems);
}

}  // namespace megatron
