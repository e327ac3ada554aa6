#include "megatron/verify/verification_model.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/options/option_table.h"
#include "megatron/config/validate/validate.h"
#include "megatron/verify/layout_verification.h"

namespace megatron {
namespace {

constexpr int64_t kDefaultLayers = 4, kDefaultHidden = 64, kDefaultHeads = 4, kDefaultGroups = 2;
constexpr int64_t kDefaultVocabulary = 250;  // needs padding in every layout
constexpr int64_t kDefaultSequence = 32;

bool gives_architecture(const std::set<std::string>& given) {
  return std::ranges::any_of(option_table().options(), [&](const Option& option) {
    return option.architecture && given.contains(option.name());
  });
}

// Adam divides a gradient that is zero in exact arithmetic, and rounding noise here, by its own
// size plus epsilon: with 1e-8 the noise would move weights by up to 1e-8 of a step.
constexpr double kLeastAdamEpsilon = 1e-5;

void use_fp64(Options& options) {
  OptimizerConfig& optimizer = options.optimizer;
  if (optimizer.optimizer == OptimizerType::adam)
    optimizer.adam_eps = std::max(optimizer.adam_eps, kLeastAdamEpsilon);
  TransformerConfig& t = options.model.transformer;
  t.bf16 = t.fp16 = false;
  t.params_dtype = at::kDouble;
  t.pipeline_dtype.reset();
  t.low_precision = {};
  t.fp32_residual_connection = false;
  options.model.fp16_lm_cross_entropy = false;
  options.ddp.grad_reduce_in_fp32 = true;
  if (t.attention_backend == AttentionBackend::flash)
    t.attention_backend = AttentionBackend::automatic;
}

// Sets the first candidate with which all layouts fit that fit the full model, else the last one.
template <typename Set>
void take_smallest(const std::vector<int64_t>& candidates, const std::vector<NamedLayout>& layouts,
                   const std::vector<bool>& fits_full, Options& options, const Set& set) {
  for (const int64_t candidate : candidates) {
    set(options, candidate);
    bool fits = true;
    for (size_t i = 0; i < layouts.size(); ++i)
      fits &= !fits_full[i] || misfit(layouts[i], options).empty();
    if (fits) return;
  }
}

std::vector<int64_t> counting_up(int64_t first, int64_t last) {
  std::vector<int64_t> values(std::max<int64_t>(last - first + 1, 1));
  std::iota(values.begin(), values.end(), std::min(first, last));
  return values;
}

std::vector<int64_t> doubling_up(int64_t first, int64_t last) {
  std::vector<int64_t> values;
  for (int64_t value = first; value < last; value *= 2) values.push_back(value);
  values.push_back(last);
  return values;
}

int64_t scaled(int64_t value, double factor, int64_t multiple) {
  const auto parts = static_cast<int64_t>(double(value) * factor / double(multiple) + 0.5);
  return std::max<int64_t>(parts, 1) * multiple;
}

void set_layers(Options& options, int64_t layers) {
  TransformerConfig& t = options.model.transformer;
  t.num_layers = layers;
  for (auto* by_layer : {&t.no_rope_freq, &t.window_attn_skip_freq}) {
    if (by_layer->size() > 1) by_layer->resize(layers);
  }
}

void set_width(Options& options, const GPTModelConfig& full, int64_t groups) {
  const TransformerConfig& was = full.transformer;
  TransformerConfig& t = options.model.transformer;
  const int64_t heads_of_group = was.num_attention_heads / was.query_groups();
  // Multi-query attention keeps more heads in its one group.
  t.num_attention_heads =
      groups * std::min<int64_t>(heads_of_group, std::max<int64_t>(4, 8 / groups));
  if (t.num_query_groups) t.num_query_groups = groups;
  const int64_t head_dim = std::min<int64_t>(was.head_dim(), 16);
  if (t.kv_channels) t.kv_channels = head_dim;
  t.hidden_size = t.num_attention_heads * head_dim;
  const double factor = double(t.hidden_size) / double(was.hidden_size);
  if (t.ffn_hidden_size) t.ffn_hidden_size = scaled(*was.ffn_hidden_size, factor, 16);
  if (t.mup.mup_base_hidden_size)
    t.mup.mup_base_hidden_size = scaled(*was.mup.mup_base_hidden_size, factor, 1);
  if (!t.mrope_section.empty()) {
    const auto half = static_cast<int64_t>(double(head_dim) * full.rotary_percent) / 2;
    t.mrope_section = {half - half / 3 * 2, half / 3, half / 3};
  }
  // A factor for each pair of rotated features.
  const auto pairs = static_cast<size_t>(double(head_dim) * full.rotary_percent) / 2;
  for (auto* factors :
       {&options.model.longrope_short_factor, &options.model.longrope_long_factor}) {
    if (factors->size() > pairs) factors->resize(pairs);
  }
  MultiLatentAttentionConfig& mla = t.mla;
  if (!mla.multi_latent_attention) return;
  if (mla.q_lora_rank) mla.q_lora_rank = std::min<int64_t>(*mla.q_lora_rank, 24);
  mla.kv_lora_rank = std::min<int64_t>(mla.kv_lora_rank, 16);
  mla.qk_head_dim = std::min<int64_t>(mla.qk_head_dim, 16);
  mla.qk_pos_emb_head_dim = std::min<int64_t>(mla.qk_pos_emb_head_dim, 8);
  mla.v_head_dim = std::min<int64_t>(mla.v_head_dim, 16);
}

// At least 4, and at least the tensor-parallel sizes that divide the full model's groups, so that
// ranks still do not share groups.
int64_t fewest_groups(int64_t groups, const std::vector<NamedLayout>& layouts) {
  int64_t fewest = 4;
  for (const NamedLayout& layout : layouts) {
    Options options;
    apply_layout(layout, options);
    const int64_t tp = options.model.transformer.tensor_model_parallel_size;
    if (groups % tp == 0) fewest = std::max(fewest, tp);
  }
  return std::min(fewest, groups);
}

void set_sequence(Options& options, const GPTModelConfig& full, int64_t length) {
  options.model.seq_length = length;
  if (options.model.max_position_embeddings) {
    options.model.max_position_embeddings =
        std::min(*full.max_position_embeddings, std::max<int64_t>(length, 64));
  }
  auto& window = options.model.transformer.window_size;
  if (!window.empty() && window[0] >= length)
    window[0] = std::max<int64_t>(length / 4, 1);  // so that the window masks something
}

}  // namespace

void complete_verification_model(Options& options, const std::set<std::string>& given) {
  TransformerConfig& t = options.model.transformer;
  if (!gives_architecture(given)) {
    t.num_query_groups = kDefaultGroups;
    t.activation_func = ActivationFunction::silu;
    t.gated_linear_unit = true;
    t.ffn_hidden_size = 2 * kDefaultHidden;
    options.model.position_embedding_type = PositionEmbeddingType::rope;
  }
  if (!given.contains("num_layers")) t.num_layers = kDefaultLayers;
  if (!given.contains("hidden_size")) t.hidden_size = kDefaultHidden;
  if (!given.contains("num_attention_heads")) t.num_attention_heads = kDefaultHeads;
  if (!options.model.vocab_size)
    options.model.vocab_size = options.model.should_pad_vocab ? kDefaultVocabulary : 256;
  if (!given.contains("seq_length")) options.model.seq_length = kDefaultSequence;
  use_fp64(options);
}

void shrink_model(Options& options, const std::vector<NamedLayout>& layouts) {
  const GPTModelConfig full = options.model;
  std::vector<bool> fits_full;
  for (const NamedLayout& layout : layouts) fits_full.push_back(misfit(layout, options).empty());
  options.model.vocab_size =
      std::min<int64_t>(*full.vocab_size, full.should_pad_vocab ? kDefaultVocabulary : 256);
  const auto smallest = [&](const std::vector<int64_t>& candidates, const auto& set) {
    take_smallest(candidates, layouts, fits_full, options, set);
  };
  // Shrink one size after another; the remaining ones still have the values of the full model.
  const int64_t groups = full.transformer.query_groups();
  smallest(doubling_up(fewest_groups(groups, layouts), groups),
           [&](Options& o, int64_t fewer) { set_width(o, full, fewer); });
  smallest(counting_up(4, full.transformer.num_layers), set_layers);
  const int64_t shortest = std::max(kDefaultSequence, full.transformer.mtp.mtp_num_layers + 1);
  smallest(doubling_up(std::min(shortest, full.seq_length), full.seq_length),
           [&](Options& o, int64_t length) { set_sequence(o, full, length); });
}

std::string misfit(const NamedLayout& layout, const Options& options) {
  try {
    options_in_layout(options, layout);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string describe_model(const Options& options) {
  const TransformerConfig& t = options.model.transformer;
  std::string text =
      fmt::format("{} layer{}, hidden {}, {} head{}", t.num_layers, t.num_layers == 1 ? "" : "s",
                  t.hidden_size, t.num_attention_heads, t.num_attention_heads == 1 ? "" : "s");
  if (t.mla.multi_latent_attention) text += ", latent attention";
  if (t.query_groups() != t.num_attention_heads)
    text += fmt::format(", {} query group{}", t.query_groups(), t.query_groups() == 1 ? "" : "s");
  text += fmt::format(", {}{} MLP of {}", t.gated_linear_unit ? "gated " : "",
                      enum_name(t.activation_func), t.ffn_size());
  if (t.mtp.mtp_num_layers > 0) text += fmt::format(", {} MTP depth(s)", t.mtp.mtp_num_layers);
  text += fmt::format(", positions {}", enum_name(options.model.position_embedding_type));
  return text;
}

std::string describe_verification(const Options& options) {
  const TransformerConfig& t = options.model.transformer;
  return fmt::format(
      "vocabulary {}, sequence {}, dropout {}{}; {} steps of {} micro-batches of {} "
      "rows, uneven loss masks, fp64",
      *options.model.vocab_size, options.model.seq_length, t.hidden_dropout,
      t.attention_dropout == t.hidden_dropout ? std::string()
                                              : fmt::format(" (attention {})", t.attention_dropout),
      kVerificationSteps, kVerificationMicrobatches, kVerificationRows);
}

}  // namespace megatron
