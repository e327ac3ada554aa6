// Checks of attention: backend, window, QK-clip and multi-latent attention.
#include <fmt/ranges.h>

#include "megatron/base/problems.h"
#include "megatron/config/model/attention_backend.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

void check_window(const TransformerConfig& t, Problems& problems) {
  problems.expect(t.window_attn_skip_freq.empty() || !t.window_size.empty(),
                  "Expected window_size with window_attn_skip_freq, but got none; give both or "
                  "neither");
  check_layer_pattern("window_attn_skip_freq", t.window_attn_skip_freq, t.num_layers, problems);
  if (t.window_size.empty()) return;
  const bool valid = t.window_size.size() == 2 && t.window_size[0] >= -1 &&
                     (t.window_size[1] == 0 || t.window_size[1] == -1);
  problems.expect(valid,
                  "Expected a left bound of at least -1 and 0 or -1 on the right (attention is "
                  "causal) for window_size, but got {}; 1023,0 lets a token see 1024",
                  fmt::join(t.window_size, ","));
}

void check_no_latent_attention(const MultiLatentAttentionConfig& mla, Problems& problems) {
  const MultiLatentAttentionConfig defaults;
  const auto needs_mla = [&](bool given, const char* field) {
    problems.expect(!given,
                    "Expected multi_latent_attention with {}, but got none; give both or neither",
                    field);
  };
  needs_mla(mla.q_lora_rank.has_value(), "q_lora_rank");
  needs_mla(mla.kv_lora_rank != defaults.kv_lora_rank, "kv_lora_rank");
  needs_mla(mla.qk_head_dim != defaults.qk_head_dim, "qk_head_dim");
  needs_mla(mla.qk_pos_emb_head_dim != defaults.qk_pos_emb_head_dim, "qk_pos_emb_head_dim");
  needs_mla(mla.v_head_dim != defaults.v_head_dim, "v_head_dim");
  needs_mla(mla.rope_type != defaults.rope_type || mla.yarn != defaults.yarn,
            "rope_type=yarn and its options");
  needs_mla(mla.cache_mla_latents, "cache_mla_latents");
}

// As in Megatron, the softmax scale depends on YaRN's fields with either rope_type.
void check_latent_rotary(const GPTModelConfig& config, Problems& problems) {
  const MultiLatentAttentionConfig& mla = config.transformer.mla;
  problems.expect(config.position_embedding_type == PositionEmbeddingType::rope,
                  "Expected position_embedding_type rope with multi_latent_attention, but got "
                  "another; rope_type selects the frequencies");
  if (mla.rope_type == RopeType::yarn) {
    check_yarn("", mla.yarn, problems);
    problems.expect(config.rotary_percent == 1,
                    "Expected rotary_percent 1 with rope_type=yarn, but got {}; leave it out",
                    config.rotary_percent);
    return;
  }
  YarnConfig of_rope;
  of_rope.rotary_scaling_factor = mla.yarn.rotary_scaling_factor;
  of_rope.mscale_all_dim = mla.yarn.mscale_all_dim;
  problems.expect(mla.yarn == of_rope,
                  "Expected rope_type=yarn with YaRN's options, but got rope; give both or "
                  "neither");
  const double factor = mla.yarn.rotary_scaling_factor;
  problems.expect(
      factor == 1 || factor == YarnConfig{}.rotary_scaling_factor || mla.yarn.mscale_all_dim != 0,
      "Expected rope_type=yarn or mscale_all_dim with rotary_scaling_factor {}, but got neither; "
      "leave it out",
      factor);
}

void check_latent_attention(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const MultiLatentAttentionConfig& mla = t.mla;
  if (!mla.multi_latent_attention) return check_no_latent_attention(mla, problems);
  if (mla.q_lora_rank) problems.is_size("q_lora_rank", *mla.q_lora_rank);
  problems.is_size("kv_lora_rank", mla.kv_lora_rank);
  problems.is_size("qk_head_dim", mla.qk_head_dim);
  problems.is_size("v_head_dim", mla.v_head_dim);
  problems.is_size("qk_pos_emb_head_dim", mla.qk_pos_emb_head_dim);
  const auto excludes = [&](bool given, const char* field) {
    problems.expect(!given, "Expected multi_latent_attention or {}, but got both; leave one out",
                    field);
  };
  excludes(t.attention_output_gate, "attention_output_gate");
  excludes(t.qk_l2_norm, "qk_l2_norm");
  excludes(t.query_groups() != t.num_attention_heads, "num_query_groups");
  excludes(t.rotary_interleaved, "rotary_interleaved");
  excludes(t.qk_layernorm_scope != QkNormScope::head, "qk_layernorm_scope");
  excludes(t.add_proj_bias.has_value(), "add_proj_bias");
  excludes(t.share_parallel_layernorm, "share_parallel_layernorm");
  excludes(t.qk_clip, "qk_clip");
  excludes(t.add_qkv_bias, "add_qkv_bias");
  excludes(t.softmax_scale.has_value(), "softmax_scale");
  excludes(config.rope_scaling, "rope_scaling");
  excludes(config.seq_len_interpolation_factor.has_value(), "seq_len_interpolation_factor");
  const MupConfig defaults;
  excludes(t.mup.mup_base_head_dim.has_value() ||
               t.mup.mup_attn_scale_power != defaults.mup_attn_scale_power,
           "mup_base_head_dim and mup_attn_scale_power");
  check_latent_rotary(config, problems);
}

// Demands that a backend does not support on any device. The model checks its own device.
void check_backend(const TransformerConfig& t, Problems& problems) {
  const auto demands = AttentionDemands::of_model(t);
  const std::string unmet = unmet_demands(t.attention_backend, demands, /*cuda=*/false);
  problems.expect(unmet.empty(),
                  "Expected attention_backend auto, fused, unfused or local with {}, but got {}; "
                  "auto works",
                  unmet, enum_name(t.attention_backend));
}

}  // namespace

void check_layer_pattern(const char* field, const std::vector<int64_t>& pattern, int64_t num_layers,
                         Problems& problems) {
  if (pattern.empty()) return;
  const auto entries = static_cast<int64_t>(pattern.size());
  problems.expect(entries == 1 || entries == num_layers,
                  "Expected one number or {} (one per layer) for {}, but got {}", num_layers, field,
                  entries);
  for (const int64_t entry : pattern) {
    problems.expect(
        entries == 1 ? entry >= 0 : entry == 0 || entry == 1, "Expected {} for {}, but got {}",
        entries == 1 ? "a number of at least 0" : "0 or 1 for each layer", field, entry);
  }
}

void check_attention(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  check_backend(t, problems);
  check_window(t, problems);
  problems.expect(t.softmax_scale.value_or(1) > 0,
                  "Expected softmax_scale above 0, but got {}; 1 / sqrt(head dimension) is usual",
                  t.softmax_scale.value_or(1));
  problems.expect(t.attn_logit_softcapping.value_or(1) > 0,
                  "Expected attn_logit_softcapping above 0, but got {}; 50 is Gemma 2's",
                  t.attn_logit_softcapping.value_or(1));
  problems.expect(!t.attn_logit_softcapping || !t.apply_query_key_layer_scaling,
                  "Expected attn_logit_softcapping or apply_query_key_layer_scaling, but got both; "
                  "leave one out");
  problems.expect(t.qk_layernorm || t.qk_layernorm_scope == QkNormScope::head,
                  "Expected qk_layernorm with qk_layernorm_scope={}, but got none; give both or "
                  "neither",
                  enum_name(t.qk_layernorm_scope));
  problems.expect(
      t.qk_layernorm_scope != QkNormScope::projection || t.normalization == Normalization::RMSNorm,
      "Expected normalization=RMSNorm with qk_layernorm_scope=projection, but got "
      "LayerNorm; head and per_head work");
  problems.expect(!t.qk_layernorm || !t.qk_l2_norm,
                  "Expected qk_layernorm or qk_l2_norm, but got both; leave one out");
  problems.expect(t.qk_clip_threshold > 0,
                  "Expected qk_clip_threshold above 0, but got {}; 100 is usual",
                  t.qk_clip_threshold);
  check_latent_attention(config, problems);
}

}  // namespace megatron
