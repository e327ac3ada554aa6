#include "megatron/models/common/model_rotary_embedding.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// Megatron does not interpolate positions with YaRN.
double position_scale(const GPTModelConfig& config) {
  if (config.position_embedding_type == PositionEmbeddingType::yarn) return 1.0;
  return 1.0 / config.seq_len_interpolation_factor.value_or(1.0);
}

// Features of a head that are rotated.
int64_t rotated_features(int64_t head_dim, const GPTModelConfig& config) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * config.rotary_percent);
}

// For the rotary features of a head. Megatron moves even features before odd ones and rotates
// halves; rotating adjacent pairs in place gives the same scores.
RotaryEmbedding latent_attention_rotary(const GPTModelConfig& config) {
  const MultiLatentAttentionConfig& mla = config.transformer.mla;
  const int64_t dim = mla.qk_pos_emb_head_dim;
  if (mla.rope_type == RopeType::yarn) {
    return {yarn_frequencies(dim, config.rotary_base, mla.yarn), /*interleaved=*/true,
            yarn_concentration(mla.yarn)};
  }
  return {rope_frequencies(rotated_features(dim, config), config.rotary_base),
          /*interleaved=*/true};
}

// Position in its sequence of each token.
at::Tensor positions_in_sequence(const ModelRotaryEmbedding::Tokens& tokens) {
  return tokens.packed_seq_params
             ? tokens.packed_seq_params->positions_in_sequence(tokens.positions)
             : tokens.positions;
}

int64_t longest_sequence(const ModelRotaryEmbedding::Tokens& tokens) {
  if (!tokens.packed_seq_params) return tokens.row_length;
  return tokens.packed_seq_params->checked_offsets(tokens.row_length).diff().max().item<int64_t>();
}

std::vector<double> divided(std::vector<double> frequencies, const std::vector<double>& divisors) {
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= divisors.at(i);
  return frequencies;
}

// Of layers that no scaling of longer contexts changes.
std::vector<double> plain_frequencies(const GPTModelConfig& config, double base) {
  return rope_frequencies(rotated_features(config.transformer.head_dim(), config), base);
}

// Frequencies of sequences up to the original length, where the scaling has one.
std::vector<double> scaled_frequencies(const GPTModelConfig& config) {
  const std::vector<double> plain = plain_frequencies(config, config.rotary_base);
  // Megatron does not scale mrope.
  if (config.position_embedding_type == PositionEmbeddingType::mrope) return plain;
  if (config.rope_scaling) return llama3_rescaled(plain, llama3_scaling(config));
  return config.has_longrope() ? divided(plain, config.longrope_short_factor) : plain;
}

RotaryEmbedding grouped_attention_rotary(const GPTModelConfig& config) {
  const TransformerConfig& transformer = config.transformer;
  if (config.position_embedding_type == PositionEmbeddingType::yarn) {
    return {yarn_frequencies(rotated_features(transformer.head_dim(), config), config.rotary_base,
                             transformer.yarn),
            transformer.rotary_interleaved, yarn_concentration(transformer.yarn)};
  }
  return {scaled_frequencies(config), transformer.rotary_interleaved, config.longrope_mscale};
}

}  // namespace

Llama3Scaling llama3_scaling(const GPTModelConfig& config) {
  return {.factor = config.rope_scaling_factor,
          .low_freq_factor = config.rope_scaling_low_freq_factor,
          .high_freq_factor = config.rope_scaling_high_freq_factor,
          .original_length = config.rope_scaling_original_max_position_embeddings};
}

ModelRotaryEmbedding::ModelRotaryEmbedding(RotaryEmbedding rotary, const GPTModelConfig& config)
    : rotary_(std::move(rotary)),
      mrope_section_(config.transformer.mrope_section),
      position_scale_(position_scale(config)),
      rotated_features_(rotated_features(config.transformer.head_dim(), config)),
      original_length_(config.rope_scaling_original_max_position_embeddings),
      base_(config.rotary_base),
      dynamic_factor_(config.rope_dynamic_scaling_factor),
      interleaved_(config.transformer.rotary_interleaved) {
  if (config.rotary_base_local) {
    local_ = RotaryEmbedding(plain_frequencies(config, *config.rotary_base_local), interleaved_);
  }
  if (config.has_longrope()) {
    long_ = RotaryEmbedding(divided(plain_frequencies(config, base_), config.longrope_long_factor),
                            interleaved_, config.longrope_mscale);
  }
}

std::unique_ptr<ModelRotaryEmbedding> ModelRotaryEmbedding::make(const GPTModelConfig& config) {
  const TransformerConfig& transformer = config.transformer;
  const auto wrap = [&](RotaryEmbedding rotary) {
    return std::unique_ptr<ModelRotaryEmbedding>(
        new ModelRotaryEmbedding(std::move(rotary), config));
  };
  if (transformer.mla.multi_latent_attention) return wrap(latent_attention_rotary(config));
  switch (config.position_embedding_type) {
    case PositionEmbeddingType::learned_absolute:
    case PositionEmbeddingType::none:
      return nullptr;
    case PositionEmbeddingType::mrope:
      check(transformer.mrope_section.size() == 3,
            "Expected mrope_section of three numbers with mrope, but got {}",
            transformer.mrope_section.size());
      break;
    case PositionEmbeddingType::yarn:
    case PositionEmbeddingType::rope:
      break;
  }
  return wrap(grouped_attention_rotary(config));
}

RotaryEmbedding ModelRotaryEmbedding::for_length(int64_t length) const {
  if (length <= original_length_) return rotary_;
  if (long_) return *long_;
  if (!dynamic_factor_) return rotary_;
  return {rope_frequencies(rotated_features_,
                           dynamic_rope_base(rotated_features_, base_, *dynamic_factor_, length,
                                             original_length_)),
          interleaved_};
}

RotaryTable ModelRotaryEmbedding::table(const Tokens& tokens, at::ScalarType dtype,
                                        at::Device device) const {
  if (!mrope_section_.empty()) {
    const at::Tensor& ids = tokens.position_ids;
    check(ids.defined(), "Expected position_ids with mrope, but got none");
    // Text has one position for all axes.
    const at::Tensor by_axis =
        ids.dim() == 2
            ? ids.unsqueeze(0).expand({static_cast<int64_t>(mrope_section_.size()), -1, -1})
            : ids;
    return rotary_.table(by_axis.to(at::kDouble) * position_scale_, mrope_section_, dtype, device);
  }
  return for_length(longest_sequence(tokens))
      .table(positions_in_sequence(tokens).to(at::kDouble) * position_scale_, dtype, device);
}

RotaryTable ModelRotaryEmbedding::local_table(const Tokens& tokens, at::ScalarType dtype,
                                              at::Device device) const {
  if (!local_) return {};
  return local_->table(positions_in_sequence(tokens).to(at::kDouble), dtype, device);
}

}  // namespace megatron
