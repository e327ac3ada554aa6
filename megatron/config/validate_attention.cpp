// The checks of attention and positions beyond their sizes.
#include "megatron/config/attention_backend.h"
#include "megatron/config/enum_names.h"
#include "megatron/config/problems.h"
#include "megatron/config/validate.h"

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
  problems.expect(t.window_size.size() == 2 && t.window_size[0] >= -1 && t.window_size[1] >= -1,
                  "Expected two numbers of at least -1 for --window-size (left,right), but got {}; "
                  "1023,0 lets a token see 1024",
                  t.window_size);
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

void check_latent_attention(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const MultiLatentAttentionConfig& mla = t.mla;
  if (!mla.multi_latent_attention) {
    problems.expect(!mla.cache_mla_latents,
                    "Expected --multi-latent-attention with --cache-mla-latents, but got none");
    return;
  }
  if (mla.q_lora_rank) problems.is_size("--q-lora-rank", *mla.q_lora_rank);
  problems.is_size("--kv-lora-rank", mla.kv_lora_rank);
  problems.is_size("--qk-head-dim", mla.qk_head_dim);
  problems.is_size("--v-head-dim", mla.v_head_dim);
  if (problems.is_size("--qk-pos-emb-head-dim", mla.qk_pos_emb_head_dim)) {
    problems.expect(mla.qk_pos_emb_head_dim % 2 == 0,
                    "Expected an even --qk-pos-emb-head-dim, but got {}; {} would work",
                    mla.qk_pos_emb_head_dim, nearest_multiples(2, mla.qk_pos_emb_head_dim));
  }
  const auto excludes = [&](bool given, const char* flag) {
    problems.expect(!given, "Expected --multi-latent-attention or {}, but got both; leave one out",
                    flag);
  };
  excludes(t.attention_output_gate, "--attention-output-gate");
  excludes(t.qk_l2_norm, "--qk-l2-norm");
  excludes(t.query_groups() != t.num_attention_heads, "--num-query-groups");
  excludes(t.rotary_interleaved, "--rotary-interleaved");
  excludes(t.qk_clip, "--qk-clip");
  problems.expect(config.position_embedding_type == PositionEmbeddingType::rope,
                  "Expected --position-embedding-type rope with --multi-latent-attention, but got "
                  "another; its frequencies are --rope-type's");
  if (mla.rope_type == RopeType::yarn) check_yarn("", mla.yarn, problems);
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

void check_attention(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  check_backend(t, problems);
  check_window(t, problems);
  check_mrope(config, problems);
  check_layer_pattern("--no-rope-freq", t.no_rope_freq, t.num_layers, problems);
  problems.expect(!t.qk_layernorm || !t.qk_l2_norm,
                  "Expected --qk-layernorm or --qk-l2-norm, but got both; leave one out");
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
