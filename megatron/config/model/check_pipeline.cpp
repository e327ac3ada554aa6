// Checks of the assignment of layers to pipeline stages.
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/model/pipeline_layout.h"

namespace megatron {
namespace {

// ", or give virtual_pipeline_model_parallel_size N": the smallest number of virtual stages that
// works; empty if there is none.
std::string virtual_stages_advice(TransformerConfig config) {
  constexpr int64_t kMost = 64;
  for (int64_t chunks = 2; chunks <= kMost; ++chunks) {
    config.pipeline.virtual_pipeline_model_parallel_size = chunks;
    try {
      PipelineLayout::of(config);
    } catch (const Error&) {
      continue;
    }
    return fmt::format(", or give virtual_pipeline_model_parallel_size {}", chunks);
  }
  return "";
}

void check_mtp_stage(const GPTModelConfig& config, const PipelineLayout& layout,
                     Problems& problems) {
  if (config.transformer.mtp.mtp_num_layers == 0 || !layout.mtp_standalone()) return;
  const int stage = layout.mtp_stage();
  problems.expect(stage != 0 && stage != layout.stages() - 1,
                  "Expected m in the stage of L, or on a rank of its own that is neither the first "
                  "nor the last in pipeline_model_parallel_layout, but got it on rank {} of {}: a "
                  "rank keeps one copy of the embedding; mL works",
                  stage, layout.stages());
  problems.expect(config.position_embedding_type != PositionEmbeddingType::learned_absolute,
                  "Expected m in the stage of L with learned positions in "
                  "pipeline_model_parallel_layout, but got a stage of its own; mL works, or "
                  "position_embedding_type=rope");
}

}  // namespace

void check_pipeline(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  problems.collect([&] {
    const PipelineLayout layout = PipelineLayout::of(t);
    check_mtp_stage(config, layout, problems);
    const auto& recompute = t.recompute;
    if (recompute.recompute_granularity == RecomputeGranularity::full &&
        recompute.recompute_num_layers) {
      const int64_t most = layout.most_layers();
      problems.expect(*recompute.recompute_num_layers <= most,
                      "Expected recompute_num_layers of at most the {} layers of a pipeline stage, "
                      "but got {}; 1 to {} work",
                      most, *recompute.recompute_num_layers, most);
    }
    problems.expect(
        layout.chunks() > 1 || !t.pipeline.microbatch_group_size_per_vp_stage,
        "Expected several virtual stages per rank with microbatch_group_size_per_vp_stage, but got "
        "one; leave it out{}",
        virtual_stages_advice(t));
  });
  if (t.pipeline_model_parallel_size > 1) return;
  const auto needs_stages = [&](bool is_default, const char* field) {
    problems.expect(is_default,
                    "Expected pipeline_model_parallel_size above 1 with {}, but got 1; leave it "
                    "out",
                    field);
  };
  needs_stages(!t.pipeline.variable_seq_lengths, "variable_seq_lengths");
  needs_stages(t.pipeline.overlap_p2p_comm, "overlap_p2p_comm=false");
  needs_stages(t.pipeline.deallocate_pipeline_outputs, "deallocate_pipeline_outputs=false");
}

}  // namespace megatron
