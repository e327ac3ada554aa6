// The checks of how layers are shared out over pipeline stages, and of the order of micro-batches.
#include <algorithm>

#include "megatron/config/pipeline_layout.h"
#include "megatron/config/problems.h"
#include "megatron/config/validate.h"

namespace megatron {

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
    const bool interleaved = layout.chunks() > 1;
    problems.expect(
        interleaved || !t.pipeline.microbatch_group_size_per_vp_stage,
        "Expected several virtual stages on a rank with "
        "--microbatch-group-size-per-virtual-pipeline-stage, but got one; leave it out, "
        "or give --num-virtual-stages-per-pipeline-rank 2");
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

void check_microbatch_groups(const PipelineConfig& pipeline, int64_t stages, int64_t microbatches,
                             Problems& problems) {
  if (!pipeline.microbatch_group_size_per_vp_stage) return;
  const int64_t group = *pipeline.microbatch_group_size_per_vp_stage;
  const int64_t nearest = std::clamp(group, stages, std::max(stages, microbatches));
  const bool in_range = group >= stages && group <= microbatches;
  problems.expect(in_range,
                  "Expected --microbatch-group-size-per-virtual-pipeline-stage between "
                  "--pipeline-model-parallel-size ({}) and the {} micro-batches of a step, but got "
                  "{}; {}",
                  stages, microbatches, group,
                  microbatches < stages ? "leave it out" : fmt::format("{} works", nearest));
  if (!in_range) return;
  const int64_t rest = microbatches % group;
  problems.expect(
      rest == 0 || rest >= stages,
      "Expected the last group of micro-batches to hold none or at least {} "
      "(--pipeline-model-parallel-size) of the {}, but got {} with "
      "--microbatch-group-size-per-virtual-pipeline-stage {}; {} works, or leave it out",
      stages, microbatches, rest, group, microbatches);
}

}  // namespace megatron
