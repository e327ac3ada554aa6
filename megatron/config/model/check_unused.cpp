// Fields that have no effect in combination with others. Megatron ignores them; they are refused
// here, and parity cases drop them. A field at its default passes.
#include <functional>
#include <string>
#include <vector>

#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

struct UnusedField {
  std::string problem;
  std::function<void(GPTModelConfig&)> drop;  // sets its default
};

class UnusedFields {
 public:
  // `field` has no effect without `needed`.
  template <typename Drop>
  void needs(bool used, const char* field, const char* needed, const Drop& drop) {
    if (used) return;
    fields.push_back(
        {fmt::format("Expected {} with {}, but got none; give both or neither", needed, field),
         drop});
  }
  // `field` has no effect with `other`.
  template <typename Drop>
  void excludes(bool both, const char* field, const char* other, const Drop& drop) {
    if (!both) return;
    fields.push_back(
        {fmt::format("Expected {} or {}, but got both; leave {} out", field, other, field), drop});
  }

  std::vector<UnusedField> fields;
};

void find_unused_positions(const GPTModelConfig& config, UnusedFields& unused) {
  const auto& t = config.transformer;
  const bool yarn = config.position_embedding_type == PositionEmbeddingType::yarn;
  const bool mrope = config.position_embedding_type == PositionEmbeddingType::mrope;
  const auto drop_rope_scaling = [](GPTModelConfig& c) {
    const GPTModelConfig defaults;
    c.rope_scaling = defaults.rope_scaling;
    c.rope_scaling_factor = defaults.rope_scaling_factor;
    c.rope_scaling_low_freq_factor = defaults.rope_scaling_low_freq_factor;
    c.rope_scaling_high_freq_factor = defaults.rope_scaling_high_freq_factor;
    c.rope_scaling_original_max_position_embeddings =
        defaults.rope_scaling_original_max_position_embeddings;
  };
  unused.needs(t.yarn == YarnConfig() || yarn, "the yarn_* options", "position_embedding_type=yarn",
               [](GPTModelConfig& c) { c.transformer.yarn = {}; });
  unused.excludes(yarn && config.rope_scaling, "rope_scaling", "position_embedding_type=yarn",
                  drop_rope_scaling);
  unused.excludes(yarn && config.seq_len_interpolation_factor, "seq_len_interpolation_factor",
                  "position_embedding_type=yarn",
                  [](GPTModelConfig& c) { c.seq_len_interpolation_factor.reset(); });
  unused.excludes(mrope && config.rope_scaling, "rope_scaling", "position_embedding_type=mrope",
                  drop_rope_scaling);
}

void find_unused_attention(const TransformerConfig& t, UnusedFields& unused) {
  unused.excludes(t.mla.multi_latent_attention && t.kv_channels, "kv_channels",
                  "multi_latent_attention",
                  [](GPTModelConfig& c) { c.transformer.kv_channels.reset(); });
  unused.excludes(t.softmax_scale && (t.mup.mup_base_head_dim || t.mup.mup_attn_scale_power != 1),
                  "mup_base_head_dim or mup_attn_scale_power", "softmax_scale",
                  [](GPTModelConfig& c) {
                    c.transformer.mup.mup_base_head_dim.reset();
                    c.transformer.mup.mup_attn_scale_power = 1;
                  });
  const double threshold = TransformerConfig().qk_clip_threshold;
  unused.needs(t.qk_clip || t.qk_clip_threshold == threshold, "qk_clip_threshold", "qk_clip",
               [threshold](GPTModelConfig& c) { c.transformer.qk_clip_threshold = threshold; });
}

void find_unused_low_precision(const TransformerConfig& t, UnusedFields& unused) {
  const LowPrecisionConfig &c = t.low_precision, defaults;
  const bool used = c.is_used(), delayed = used && c.fp8_recipe == Fp8Recipe::delayed;
  unused.needs(used || c.fp8_recipe == defaults.fp8_recipe, "fp8_recipe", "fp8=e4m3",
               [](GPTModelConfig& g) { g.transformer.low_precision.fp8_recipe = {}; });
  const auto needs_delayed = [&](bool is_default, const char* field, const auto& drop) {
    unused.needs(delayed || is_default, field, used ? "fp8_recipe=delayed" : "fp8=e4m3", drop);
  };
  needs_delayed(c.fp8_margin == defaults.fp8_margin, "fp8_margin",
                [](GPTModelConfig& g) { g.transformer.low_precision.fp8_margin = 0; });
  needs_delayed(c.fp8_amax_history_len == defaults.fp8_amax_history_len, "fp8_amax_history_len",
                [](GPTModelConfig& g) { g.transformer.low_precision.fp8_amax_history_len = 1; });
  needs_delayed(c.fp8_amax_compute_algo == defaults.fp8_amax_compute_algo, "fp8_amax_compute_algo",
                [](GPTModelConfig& g) { g.transformer.low_precision.fp8_amax_compute_algo = {}; });
  unused.needs(
      used || !c.first_last_layers_bf16, "first_last_layers_bf16", "fp8=e4m3",
      [](GPTModelConfig& g) { g.transformer.low_precision.first_last_layers_bf16 = false; });
  unused.needs(c.first_last_layers_bf16 ||
                   (c.num_layers_at_start_in_bf16 == 1 && c.num_layers_at_end_in_bf16 == 1),
               "num_layers_at_start_in_bf16 or num_layers_at_end_in_bf16", "first_last_layers_bf16",
               [](GPTModelConfig& g) {
                 g.transformer.low_precision.num_layers_at_start_in_bf16 = 1;
                 g.transformer.low_precision.num_layers_at_end_in_bf16 = 1;
               });
}

UnusedFields find_unused_fields(const GPTModelConfig& config) {
  const auto& t = config.transformer;
  UnusedFields unused;
  find_unused_positions(config, unused);
  find_unused_attention(t, unused);
  find_unused_low_precision(t, unused);
  unused.needs(
      t.cross_entropy_loss_fusion || t.cross_entropy_fusion_impl == CrossEntropyFusion::native,
      "cross_entropy_fusion_impl", "cross_entropy_loss_fusion", [](GPTModelConfig& c) {
        c.transformer.cross_entropy_fusion_impl = CrossEntropyFusion::native;
      });
  const double factor = MultiTokenPredictionConfig().mtp_loss_scaling_factor;
  unused.needs(t.mtp.mtp_num_layers > 0 || t.mtp.mtp_loss_scaling_factor == factor,
               "mtp_loss_scaling_factor", "mtp_num_layers",
               [factor](GPTModelConfig& c) { c.transformer.mtp.mtp_loss_scaling_factor = factor; });
  const bool narrow = t.compute_dtype() == at::kBFloat16 || t.compute_dtype() == at::kHalf;
  unused.needs(narrow || !t.fp32_residual_connection, "fp32_residual_connection", "bf16=true",
               [](GPTModelConfig& c) { c.transformer.fp32_residual_connection = false; });
  return unused;
}

}  // namespace

void check_unused_fields(const GPTModelConfig& config, Problems& problems) {
  for (const UnusedField& field : find_unused_fields(config).fields)
    problems.expect(false, "{}", field.problem);
}

void drop_unused_fields(GPTModelConfig& config) {
  for (const UnusedField& field : find_unused_fields(config).fields) field.drop(config);
}

}  // namespace megatron
