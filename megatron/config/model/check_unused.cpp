// Fields that have no effect in combination with others. Megatron ignores them, and so do the model
// constructors; the command line refuses them. A field at its default passes.
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {

void check_unused_fields(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const TransformerConfig defaults;
  const auto needs = [&](bool used, const char* given, const char* needed) {
    problems.expect(used, "Expected {} with {}, but got none; give both or neither", needed, given);
  };
  const auto excludes = [&](bool both, const char* given, const char* other) {
    problems.expect(!both, "Expected {} or {}, but got both; leave {} out", given, other, given);
  };
  const bool yarn = config.position_embedding_type == PositionEmbeddingType::yarn;
  const char* with_yarn = "position_embedding_type=yarn";
  needs(t.yarn == defaults.yarn || yarn, "the yarn_* options", with_yarn);
  excludes(yarn && config.rotary_percent != 1, "rotary_percent", with_yarn);
  excludes(yarn && config.rope_scaling, "rope_scaling", with_yarn);
  excludes(yarn && config.seq_len_interpolation_factor, "seq_len_interpolation_factor", with_yarn);
  excludes(config.position_embedding_type == PositionEmbeddingType::mrope && config.rope_scaling,
           "rope_scaling", "position_embedding_type=mrope");
  excludes(t.mla.multi_latent_attention && t.kv_channels, "kv_channels", "multi_latent_attention");
  excludes(t.softmax_scale && (t.mup.mup_base_head_dim || t.mup.mup_attn_scale_power != 1),
           "mup_base_head_dim or mup_attn_scale_power", "softmax_scale");
  needs(t.qk_clip || t.qk_clip_threshold == defaults.qk_clip_threshold, "qk_clip_threshold",
        "qk_clip");
  needs(t.cross_entropy_loss_fusion || t.cross_entropy_fusion_impl == CrossEntropyFusion::native,
        "cross_entropy_fusion_impl", "cross_entropy_loss_fusion");
  needs(t.mtp.mtp_num_layers > 0 ||
            t.mtp.mtp_loss_scaling_factor == defaults.mtp.mtp_loss_scaling_factor,
        "mtp_loss_scaling_factor", "mtp_num_layers");
  needs(t.compute_dtype() == at::kBFloat16 || !t.fp32_residual_connection,
        "fp32_residual_connection", "bf16=true");
}

}  // namespace megatron
