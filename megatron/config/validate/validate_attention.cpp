// The checks of attention and positions beyond their sizes.
#include <tuple>

#include <fmt/ranges.h>

#include "megatron/base/problems.h"
#include "megatron/config/model/attention_backend.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

void check_layer_pattern(const char* flag, const std::vector<int64_t>& pattern, int64_t num_layers,
                         Problems& problems) {
  if (pattern.empty()) return;
  const auto layers = static_cast<int64_t>(pattern.size());
  problems.expect(layers == 1 || layers == num_layers,
                  "Expected one number or {} (one a layer) for {}, but got {}", num_layers, flag,
                  layers);
  for (const int64_t entry : pattern) {
    problems.expect(layers == 1 ? entry >= 0 : entry == 0 || entry == 1,
                    "Expected {} for {}, but got {}",
                    layers == 1 ? "a number of at least 0" : "0 or 1 for each layer", flag, entry);
  }
}

void check_window(const TransformerConfig& t, Problems& problems) {
  problems.expect(t.window_attn_skip_freq.empty() || !t.window_size.empty(),
                  "Expected --window-size with --window-attn-skip-freq, but got none; give both or "
                  "neither");
  check_layer_pattern("--window-attn-skip-freq", t.window_attn_skip_freq, t.num_layers, problems);
  if (t.window_size.empty()) return;
  const bool sound = t.window_size.size() == 2 && t.window_size[0] >= -1 &&
                     (t.window_size[1] == 0 || t.window_size[1] == -1);
  problems.expect(
      sound,
      "Expected a left bound of at least -1 and 0 or -1 on the right (a token sees none "
      "behind it) for --window-size, but got {}; 1023,0 lets a token see 1024",
      fmt::join(t.window_size, ","));
}

void check_mrope(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const bool mrope = config.position_embedding_type == PositionEmbeddingType::mrope;
  problems.expect(mrope || t.mrope_section.empty(),
                  "Expected --position-embedding-type mrope with --mrope-section, but got another; "
                  "leave --mrope-section out, or take mrope");
  if (!mrope) return;
  const auto half =
      static_cast<int64_t>(static_cast<double>(t.head_dim()) * config.rotary_percent) / 2;
  int64_t sum = 0;
  for (const int64_t section : t.mrope_section) sum += section;
  problems.expect(t.mrope_section.size() == 3 && sum == half,
                  "Expected three numbers that sum to {} (half the rotated features of a head) for "
                  "--mrope-section, but got {}; {},{},{} works",
                  half,
                  t.mrope_section.empty() ? std::string("none")
                                          : fmt::format("{}", fmt::join(t.mrope_section, ",")),
                  half - half / 3 * 2, half / 3, half / 3);
}

void check_yarn(const char* prefix, const YarnConfig& yarn, Problems& problems) {
  problems.expect(yarn.rotary_scaling_factor >= 1,
                  "Expected --{}rotary-scaling-factor of at least 1, but got {}; 1 changes nothing",
                  prefix, yarn.rotary_scaling_factor);
  problems.expect(
      yarn.original_max_position_embeddings >= 1,
      "Expected --{}original-max-position-embeddings of at least 1, but got {}; 4096 is "
      "usual",
      prefix, yarn.original_max_position_embeddings);
  problems.expect(
      yarn.beta_fast > yarn.beta_slow && yarn.beta_slow > 0,
      "Expected --{0}beta-fast above --{0}beta-slow above 0, but got {1} and {2}; 32 and "
      "1 are usual",
      prefix, yarn.beta_fast, yarn.beta_slow);
}

void check_no_latent_attention(const MultiLatentAttentionConfig& mla, Problems& problems) {
  const MultiLatentAttentionConfig defaults;
  const auto belongs = [&](bool given, const char* flag) {
    problems.expect(!given,
                    "Expected --multi-latent-attention with {}, but got none; give both or neither",
                    flag);
  };
  belongs(mla.q_lora_rank.has_value(), "--q-lora-rank");
  belongs(mla.kv_lora_rank != defaults.kv_lora_rank, "--kv-lora-rank");
  belongs(mla.qk_head_dim != defaults.qk_head_dim, "--qk-head-dim");
  belongs(mla.qk_pos_emb_head_dim != defaults.qk_pos_emb_head_dim, "--qk-pos-emb-head-dim");
  belongs(mla.v_head_dim != defaults.v_head_dim, "--v-head-dim");
  belongs(mla.rope_type != defaults.rope_type || !same(mla.yarn, defaults.yarn),
          "--rope-type yarn and its options");
  belongs(mla.cache_mla_latents, "--cache-mla-latents");
}

// The softmax scale is that of YaRN with either rope type, as in Megatron.
void check_latent_rotary(const GPTModelConfig& config, Problems& problems) {
  const MultiLatentAttentionConfig& mla = config.transformer.mla;
  problems.expect(config.position_embedding_type == PositionEmbeddingType::rope,
                  "Expected --position-embedding-type rope with --multi-latent-attention, but got "
                  "another; its frequencies are --rope-type's");
  if (mla.rope_type == RopeType::yarn) {
    check_yarn("", mla.yarn, problems);
    problems.expect(config.rotary_percent == 1,
                    "Expected --rotary-percent 1 with --rope-type yarn, but got {}; leave it out",
                    config.rotary_percent);
    return;
  }
  YarnConfig of_rope;
  of_rope.rotary_scaling_factor = mla.yarn.rotary_scaling_factor;
  of_rope.mscale_all_dim = mla.yarn.mscale_all_dim;
  problems.expect(same(mla.yarn, of_rope),
                  "Expected --rope-type yarn with the options of YaRN, but got rope; give both or "
                  "neither");
  const double factor = mla.yarn.rotary_scaling_factor;
  problems.expect(
      factor == 1 || factor == YarnConfig{}.rotary_scaling_factor || mla.yarn.mscale_all_dim != 0,
      "Expected --rope-type yarn or --mscale-all-dim with --rotary-scaling-factor, but "
      "got neither beside {}; leave it out",
      factor);
}

void check_latent_attention(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const MultiLatentAttentionConfig& mla = t.mla;
  if (!mla.multi_latent_attention) return check_no_latent_attention(mla, problems);
  if (mla.q_lora_rank) problems.is_size("--q-lora-rank", *mla.q_lora_rank);
  problems.is_size("--kv-lora-rank", mla.kv_lora_rank);
  problems.is_size("--qk-head-dim", mla.qk_head_dim);
  problems.is_size("--v-head-dim", mla.v_head_dim);
  problems.is_size("--qk-pos-emb-head-dim", mla.qk_pos_emb_head_dim);
  const auto excludes = [&](bool given, const char* flag) {
    problems.expect(!given, "Expected --multi-latent-attention or {}, but got both; leave one out",
                    flag);
  };
  excludes(t.attention_output_gate, "--attention-output-gate");
  excludes(t.qk_l2_norm, "--qk-l2-norm");
  excludes(t.query_groups() != t.num_attention_heads, "--num-query-groups");
  excludes(t.rotary_interleaved, "--rotary-interleaved");
  excludes(t.qk_clip, "--qk-clip");
  excludes(t.add_qkv_bias, "--add-qkv-bias");
  excludes(t.softmax_scale.has_value(), "--softmax-scale");
  excludes(config.rope_scaling, "--use-rope-scaling");
  excludes(config.seq_len_interpolation_factor.has_value(),
           "--rotary-seq-len-interpolation-factor");
  const MupConfig defaults;
  excludes(t.mup.mup_base_head_dim.has_value() ||
               t.mup.mup_attn_scale_power != defaults.mup_attn_scale_power,
           "--mup-base-head-dim and --mup-attn-scale-power");
  check_latent_rotary(config, problems);
}

// What no device's version of the backend can do; the model checks the rest, knowing its device.
void check_backend(const TransformerConfig& t, Problems& problems) {
  const auto demands = AttentionDemands::of_model(t);
  const std::string unmet = unmet_demands(t.attention_backend, demands, /*cuda=*/false);
  problems.expect(unmet.empty(),
                  "Expected --attention-backend auto, fused, unfused or local with {}, but got {}; "
                  "auto works",
                  unmet, enum_name(t.attention_backend));
}

}  // namespace

bool same(const YarnConfig& left, const YarnConfig& right) {
  const auto fields = [](const YarnConfig& yarn) {
    return std::tie(yarn.rotary_scaling_factor, yarn.original_max_position_embeddings,
                    yarn.beta_fast, yarn.beta_slow, yarn.mscale, yarn.mscale_all_dim,
                    yarn.correction_range_round_to_int);
  };
  return fields(left) == fields(right);
}

void check_attention(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  check_backend(t, problems);
  check_window(t, problems);
  check_mrope(config, problems);
  problems.expect(t.softmax_scale.value_or(1) > 0,
                  "Expected --softmax-scale above 0, but got {}; 1 / sqrt(head width) is usual",
                  t.softmax_scale.value_or(1));
  problems.expect(
      config.position_embedding_type != PositionEmbeddingType::yarn || config.rotary_base > 1,
      "Expected --rotary-base above 1 with --position-embedding-type yarn, but got {}; "
      "10000 is usual",
      config.rotary_base);
  check_layer_pattern("--no-rope-freq", t.no_rope_freq, t.num_layers, problems);
  problems.expect(!t.qk_layernorm || !t.qk_l2_norm,
                  "Expected --qk-layernorm or --qk-l2-norm, but got both; leave one out");
  problems.expect(t.qk_clip_alpha == TransformerConfig{}.qk_clip_alpha,
                  "Expected no --qk-clip-alpha, but got {}: shrinking the weights is not in this "
                  "version; leave it out",
                  t.qk_clip_alpha);
  problems.expect(t.qk_clip_threshold > 0,
                  "Expected --qk-clip-threshold above 0, but got {}; 100 is usual",
                  t.qk_clip_threshold);
  if (config.position_embedding_type == PositionEmbeddingType::yarn) {
    check_yarn("yarn-", t.yarn, problems);
    problems.expect(!t.rotary_interleaved,
                    "Expected --rotary-interleaved without yarn, but got both; leave one out");
  }
  check_latent_attention(config, problems);
}

}  // namespace megatron
