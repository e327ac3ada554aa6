// Checks of position embeddings: learned, rotary, YaRN and mrope.
#include <algorithm>
#include <string>

#include <fmt/ranges.h>

#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

void check_no_rotary(const GPTModelConfig& config, Problems& problems) {
  const GPTModelConfig defaults;
  const auto unused = [&](bool is_default, const char* field) {
    problems.expect(is_default,
                    "Expected position_embedding_type rope, yarn or mrope with {}, but got "
                    "another; leave {} out, or use rope",
                    field, field);
  };
  unused(config.rotary_percent == defaults.rotary_percent, "rotary_percent");
  unused(config.rotary_base == defaults.rotary_base, "rotary_base");
  unused(!config.rope_scaling, "rope_scaling");
  unused(config.rope_scaling_factor == defaults.rope_scaling_factor, "rope_scaling_factor");
  unused(!config.rotary_base_local, "rotary_base_local");
  unused(!config.rope_dynamic_scaling_factor, "rope_dynamic_scaling_factor");
  unused(!config.has_longrope(), "longrope_short_factor and longrope_long_factor");
  unused(!config.seq_len_interpolation_factor, "seq_len_interpolation_factor");
  unused(!config.transformer.rotary_interleaved, "rotary_interleaved");
  unused(config.transformer.no_rope_freq.empty(), "no_rope_freq");
}

void check_rotary_percent(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const double percent = config.rotary_percent;
  const bool in_range = percent > 0 && percent <= 1;
  problems.expect(in_range,
                  "Expected rotary_percent above 0 and at most 1, but got {}; 1 rotates all "
                  "features of a head",
                  percent);
  if (!in_range) return;
  const bool latent = t.mla.multi_latent_attention;
  const int64_t dim = latent ? t.mla.qk_pos_emb_head_dim : t.head_dim();
  problems.expect(dim % 2 == 0,
                  "Expected an even head dimension for rotary positions, but got {}; {} of {} "
                  "would work",
                  dim, latent ? "qk_pos_emb_head_dim" : "kv_channels", nearest_multiples(2, dim));
  if (dim % 2 != 0) return;
  const auto rotated = static_cast<int64_t>(static_cast<double>(dim) * percent);
  const int64_t even = std::max<int64_t>((rotated + 1) / 2 * 2, 2);
  problems.expect(rotated % 2 == 0 && rotated > 0,
                  "Expected rotary_percent to rotate an even number of the {} features of a head, "
                  "but got {}, which rotates {}; {} would work",
                  dim, percent, rotated, static_cast<double>(even) / static_cast<double>(dim));
}

// The ways to scale frequencies exclude each other, and belong to position_embedding_type rope.
void check_one_scaling(const GPTModelConfig& config, Problems& problems) {
  std::vector<std::string> given;
  if (config.rope_scaling) given.emplace_back("rope_scaling");
  if (config.rope_dynamic_scaling_factor) given.emplace_back("rope_dynamic_scaling_factor");
  if (config.has_longrope()) given.emplace_back("longrope_short_factor");
  problems.expect(
      given.size() <= 1,
      "Expected one scaling of the rotary frequencies, but got {}; leave all but one out",
      fmt::join(given, " and "));
  const bool scales = config.rope_dynamic_scaling_factor || config.has_longrope();
  const bool plain = config.position_embedding_type == PositionEmbeddingType::rope &&
                     !config.transformer.mla.multi_latent_attention;
  problems.expect(!scales || plain,
                  "Expected position_embedding_type=rope without multi_latent_attention with {}, "
                  "but got another; leave it out",
                  fmt::join(given, " and "));
  problems.expect(!scales || !config.seq_len_interpolation_factor,
                  "Expected seq_len_interpolation_factor or {}, but got both; leave one out",
                  fmt::join(given, " and "));
}

void check_dynamic_scaling(const GPTModelConfig& config, Problems& problems) {
  problems.expect(config.rope_scaling_original_max_position_embeddings >= 1,
                  "Expected rope_scaling_original_max_position_embeddings of at least 1, but got "
                  "{}; 8192 is Llama 3.1's",
                  config.rope_scaling_original_max_position_embeddings);
  problems.expect(config.rope_dynamic_scaling_factor.value_or(1) >= 1,
                  "Expected rope_dynamic_scaling_factor of at least 1, but got {}; 2 is usual",
                  config.rope_dynamic_scaling_factor.value_or(1));
}

void check_llama3_scaling(const GPTModelConfig& config, Problems& problems) {
  const GPTModelConfig defaults;
  const double low = config.rope_scaling_low_freq_factor,
               high = config.rope_scaling_high_freq_factor;
  problems.expect(config.rope_scaling || (low == defaults.rope_scaling_low_freq_factor &&
                                          high == defaults.rope_scaling_high_freq_factor),
                  "Expected rope_scaling with rope_scaling_low_freq_factor and "
                  "rope_scaling_high_freq_factor, but got none; leave them out");
  problems.expect(low > 0 && high > low,
                  "Expected rope_scaling_high_freq_factor above rope_scaling_low_freq_factor above "
                  "0, but got {} and {}; 4 and 1 are Llama 3.1's",
                  high, low);
  const bool has_length =
      config.rope_scaling || config.rope_dynamic_scaling_factor || config.has_longrope();
  problems.expect(has_length || config.rope_scaling_original_max_position_embeddings ==
                                    defaults.rope_scaling_original_max_position_embeddings,
                  "Expected rope_scaling, rope_dynamic_scaling_factor or longrope_short_factor "
                  "with rope_scaling_original_max_position_embeddings, but got none; leave it out");
}

void check_longrope(const GPTModelConfig& config, Problems& problems) {
  problems.expect(config.has_longrope() || config.longrope_mscale == 1,
                  "Expected longrope_short_factor and longrope_long_factor with longrope_mscale, "
                  "but got none; leave it out");
  problems.expect(config.longrope_mscale > 0,
                  "Expected longrope_mscale above 0, but got {}; 1 changes nothing",
                  config.longrope_mscale);
  if (!config.has_longrope()) return;
  const auto pairs = static_cast<int64_t>(static_cast<double>(config.transformer.head_dim()) *
                                          config.rotary_percent) /
                     2;
  const auto check_list = [&](const char* field, const std::vector<double>& factors) {
    problems.expect(std::ssize(factors) == pairs &&
                        std::ranges::all_of(factors, [](double factor) { return factor > 0; }),
                    "Expected {} numbers above 0 (half the rotated features of a head) for {}, but "
                    "got {}; give both lists",
                    pairs, field,
                    factors.empty() ? "none" : fmt::format("{}", fmt::join(factors, ",")));
  };
  check_list("longrope_short_factor", config.longrope_short_factor);
  check_list("longrope_long_factor", config.longrope_long_factor);
}

void check_local_rotary(const GPTModelConfig& config, Problems& problems) {
  if (!config.rotary_base_local) return;
  problems.expect(*config.rotary_base_local > 0,
                  "Expected rotary_base_local above 0, but got {}; 10000 is usual",
                  *config.rotary_base_local);
  problems.expect(
      !config.transformer.window_size.empty(),
      "Expected window_size with rotary_base_local, but got none; give both or neither");
  problems.expect(config.position_embedding_type != PositionEmbeddingType::mrope &&
                      !config.transformer.mla.multi_latent_attention,
                  "Expected position_embedding_type rope or yarn without multi_latent_attention "
                  "with rotary_base_local, but got another; leave it out");
}

void check_rotary(const GPTModelConfig& config, Problems& problems) {
  check_one_scaling(config, problems);
  check_llama3_scaling(config, problems);
  check_dynamic_scaling(config, problems);
  check_longrope(config, problems);
  check_local_rotary(config, problems);
  problems.expect(config.rotary_base > 0,
                  "Expected rotary_base above 0, but got {}; 10000 is usual", config.rotary_base);
  problems.expect(config.seq_len_interpolation_factor.value_or(1) >= 1,
                  "Expected seq_len_interpolation_factor of at least 1, but got {}; 1 changes "
                  "nothing",
                  config.seq_len_interpolation_factor.value_or(1));
  problems.expect(
      config.rope_scaling || config.rope_scaling_factor == GPTModelConfig().rope_scaling_factor,
      "Expected rope_scaling with rope_scaling_factor {}, but got none; give both or neither",
      config.rope_scaling_factor);
  problems.expect(config.rope_scaling_factor >= 1,
                  "Expected rope_scaling_factor of at least 1, but got {}; 8 is Llama 3.1's",
                  config.rope_scaling_factor);
  check_rotary_percent(config, problems);
}

void check_mrope(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const bool mrope = config.position_embedding_type == PositionEmbeddingType::mrope;
  problems.expect(mrope || t.mrope_section.empty(),
                  "Expected position_embedding_type mrope with mrope_section, but got another; "
                  "leave mrope_section out, or use mrope");
  if (!mrope) return;
  const auto half =
      static_cast<int64_t>(static_cast<double>(t.head_dim()) * config.rotary_percent) / 2;
  int64_t sum = 0;
  for (const int64_t section : t.mrope_section) sum += section;
  problems.expect(t.mrope_section.size() == 3 && sum == half,
                  "Expected three numbers that sum to {} (half the rotated features of a head) for "
                  "mrope_section, but got {}; {},{},{} works",
                  half,
                  t.mrope_section.empty() ? std::string("none")
                                          : fmt::format("{}", fmt::join(t.mrope_section, ",")),
                  half - half / 3 * 2, half / 3, half / 3);
}

void check_learned_positions(const GPTModelConfig& config, Problems& problems) {
  problems.expect(config.seq_length <= config.max_sequence_length(),
                  "Expected seq_length of at most max_position_embeddings ({}), but got {} with "
                  "learned positions; {} would work",
                  config.max_sequence_length(), config.seq_length, config.max_sequence_length());
}

}  // namespace

void check_yarn(const char* prefix, const YarnConfig& yarn, Problems& problems) {
  problems.expect(yarn.rotary_scaling_factor >= 1,
                  "Expected {}rotary_scaling_factor of at least 1, but got {}; 1 changes nothing",
                  prefix, yarn.rotary_scaling_factor);
  problems.expect(
      yarn.original_max_position_embeddings >= 1,
      "Expected {}original_max_position_embeddings of at least 1, but got {}; 4096 is usual",
      prefix, yarn.original_max_position_embeddings);
  problems.expect(yarn.beta_fast > yarn.beta_slow && yarn.beta_slow > 0,
                  "Expected {0}beta_fast above {0}beta_slow above 0, but got {1} and {2}; 32 and 1 "
                  "are usual",
                  prefix, yarn.beta_fast, yarn.beta_slow);
}

void check_positions(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  check_mrope(config, problems);
  switch (config.position_embedding_type) {
    case PositionEmbeddingType::learned_absolute:
      check_learned_positions(config, problems);
      check_no_rotary(config, problems);
      return;
    case PositionEmbeddingType::none:
      check_no_rotary(config, problems);
      return;
    case PositionEmbeddingType::yarn:
      check_yarn("yarn_", t.yarn, problems);
      problems.expect(config.rotary_base > 1,
                      "Expected rotary_base above 1 with position_embedding_type=yarn, but got {}; "
                      "10000 is usual",
                      config.rotary_base);
      break;
    case PositionEmbeddingType::rope:
    case PositionEmbeddingType::mrope:
      break;
  }
  check_rotary(config, problems);
  check_layer_pattern("no_rope_freq", t.no_rope_freq, t.num_layers, problems);
}

}  // namespace megatron
