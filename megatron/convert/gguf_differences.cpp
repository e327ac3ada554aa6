#include "megatron/convert/gguf_differences.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/ranges.h>

#include "megatron/config/options/options_json.h"
#include "megatron/convert/rope_factors.h"
#include "megatron/models/common/model_rotary_embedding.h"

namespace megatron {
namespace {

std::optional<double> number_in(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool agree_in_fp32(const std::string& left, const std::string& right) {
  constexpr double kFloatRounding = 2e-7;
  const auto a = number_in(left), b = number_in(right);
  return a && b && std::abs(*a - *b) <= kFloatRounding * std::max(std::abs(*a), std::abs(*b));
}

bool has_other_scaling(const GPTModelConfig& model) {
  return model.position_embedding_type != PositionEmbeddingType::rope ||
         model.seq_len_interpolation_factor || model.rope_dynamic_scaling_factor;
}

// Whether the two rotate by the same divisors, however they are described.
bool same_divisors(const GPTModelConfig& model, const GPTModelConfig& file) {
  constexpr float kTolerance = 2e-5f;  // that of the fit to Llama 3's parameters
  const auto expected = rope_divisors(model);
  if (!expected || has_other_scaling(model) || has_other_scaling(file)) return false;
  auto actual = rope_divisors(file);
  if (!actual && !file.rope_scaling && !file.has_longrope())
    actual = std::vector<float>(expected->size(), 1.0f);
  return actual && std::ranges::equal(*expected, *actual, [](float a, float b) {
           return std::abs(a - b) <= kTolerance * std::abs(a);
         });
}

}  // namespace

std::optional<std::vector<float>> rope_divisors(const GPTModelConfig& model) {
  if (model.rope_scaling) {
    return rope_factors(llama3_scaling(model), model.rotary_base, model.transformer.head_dim());
  }
  if (!model.has_longrope() || model.longrope_short_factor != model.longrope_long_factor ||
      model.longrope_mscale != 1)
    return std::nullopt;
  return std::vector<float>(model.longrope_short_factor.begin(), model.longrope_short_factor.end());
}

std::string gguf_differences(const GPTModelConfig& model, GPTModelConfig file) {
  file.max_position_embeddings = model.max_position_embeddings;
  file.seq_length = model.seq_length;
  if (same_divisors(model, file)) {
    file.rope_scaling = model.rope_scaling;
    file.rope_scaling_factor = model.rope_scaling_factor;
    file.rope_scaling_low_freq_factor = model.rope_scaling_low_freq_factor;
    file.rope_scaling_high_freq_factor = model.rope_scaling_high_freq_factor;
    file.rope_scaling_original_max_position_embeddings =
        model.rope_scaling_original_max_position_embeddings;
    file.longrope_short_factor = model.longrope_short_factor;
    file.longrope_long_factor = model.longrope_long_factor;
    file.longrope_mscale = model.longrope_mscale;
  }
  file.make_vocab_size_divisible_by = model.make_vocab_size_divisible_by;
  file.should_pad_vocab = model.should_pad_vocab;
  // The layout and precision of a training run are no part of a file.
  GPTModelConfig one_rank = model;
  one_rank.reset_layout();
  Options left, right;
  left.model = one_rank;
  right.model = std::move(file);
  std::vector<std::string> texts;
  for (const ArchitectureDifference& difference : architecture_differences(left, right)) {
    if (agree_in_fp32(difference.left, difference.right)) continue;
    texts.push_back(fmt::format("{} {}, which the file would make {}", difference.field,
                                difference.left, difference.right));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace megatron
