// The checks of how layers are shared out over pipeline stages, and of the order of micro-batches.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/validate/validate.h"

namespace megatron {

namespace {

// ", or give ...": the fewest virtual stages that the other options leave room for; "" where they
// leave none.
std::string advice_of_virtual_stages(TransformerConfig config) {
  constexpr int64_t kMost = 64;
  for (int64_t chunks = 2; chunks <= kMost; ++chunks) {
    config.pipeline.virtual_pipeline_model_parallel_size = chunks;
    try {
      PipelineLayout::of(config);
    } catch (const Error&) {
      continue;
    }
    return fmt::format(", or give --num-virtual-stages-per-pipeline-rank {}", chunks);
  }
  return "";
}

bool is_interleaved(const TransformerConfig& config) {
  if (config.pipeline_model_parallel_size < 2) return false;
  try {
    return PipelineLayout::of(config).chunks() > 1;
  } catch (const Error&) {
    return false;  // check_pipeline says what is wrong
  }
}

}  // namespace

void check_pipeline(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  try {
    const PipelineLayout layout = PipelineLayout::of(t);
    if (t.mtp.mtp_num_layers > 0 && layout.prediction_is_apart()) {
      const int stage = layout.prediction_stage();
      problems.expect(stage != 0 && stage != layout.stages() - 1,
                      "Expected m in the stage of L, or on a rank of its own that is neither the "
                      "first nor the last in --pipeline-model-parallel-layout, but got it on rank "
                      "{} of {}: a rank keeps one copy of the embedding; mL works",
                      stage, layout.stages());
      problems.expect(config.position_embedding_type != PositionEmbeddingType::learned_absolute,
                      "Expected m in the stage of L with learned positions in "
                      "--pipeline-model-parallel-layout, but got a stage of its own; mL works, or "
                      "--position-embedding-type rope");
    }
    const auto& recompute = t.recompute;
    if (recompute.recompute_granularity == RecomputeGranularity::full &&
        recompute.recompute_num_layers) {
      const int64_t most = layout.most_layers();
      problems.expect(*recompute.recompute_num_layers <= most,
                      "Expected --recompute-num-layers of at most the {} layers of a pipeline "
                      "stage, but got {}; 1 to {} work",
                      most, *recompute.recompute_num_layers, most);
    }
    problems.expect(
        layout.chunks() > 1 || !t.pipeline.microbatch_group_size_per_vp_stage,
        "Expected several virtual stages on a rank with "
        "--microbatch-group-size-per-virtual-pipeline-stage, but got one; leave it out{}",
        advice_of_virtual_stages(t));
  } catch (const Error& error) {
    problems.expect(false, "{}", error.what());
  }
  const PipelineConfig defaults;
  const bool alone = t.pipeline_model_parallel_size == 1;
  const auto unused = [&](bool is_default, const char* flag) {
    problems.expect(!alone || is_default,
                    "Expected --pipeline-model-parallel-size above 1 with {}, but got 1; leave it "
                    "out",
                    flag);
  };
  unused(!t.pipeline.variable_seq_lengths, "--variable-seq-lengths");
  unused(t.pipeline.overlap_p2p_comm, "--no-overlap-p2p-communication");
  unused(t.pipeline.deallocate_pipeline_outputs, "--no-deallocate-pipeline-outputs");
}

void check_microbatch_groups(const TransformerConfig& config, int64_t microbatches,
                             Problems& problems) {
  if (!config.pipeline.microbatch_group_size_per_vp_stage || !is_interleaved(config)) return;
  const int64_t stages = config.pipeline_model_parallel_size;
  const int64_t group = *config.pipeline.microbatch_group_size_per_vp_stage;
  const auto rest_fits = [&](int64_t size) {
    const int64_t rest = microbatches % size;
    return rest == 0 || rest >= stages;
  };
  std::string advice = "leave it out";
  if (microbatches >= stages) {
    // The nearest that works: one group of all does at last.
    const auto works = [&](int64_t size) {
      return size >= stages && size <= microbatches && rest_fits(size);
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
  problems.expect(rest_fits(group),
                  "Expected the last group of micro-batches to hold none or at least {} "
                  "(--pipeline-model-parallel-size) of the {}, but got {} with "
                  "--microbatch-group-size-per-virtual-pipeline-stage {}; {}, or leave it out",
                  stages, microbatches, microbatches % group, group, advice);
}

}  // namespace megatron
