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

}  // namespace

ModelRotaryEmbedding::ModelRotaryEmbedding(RotaryEmbedding rotary, const GPTModelConfig& config)
    : rotary_(std::move(rotary)),
      mrope_section_(config.transformer.mrope_section),
      position_scale_(position_scale(config)) {}

std::unique_ptr<ModelRotaryEmbedding> ModelRotaryEmbedding::make(const GPTModelConfig& config) {
  const TransformerConfig& transformer = config.transformer;
  const bool interleaved = transformer.rotary_interleaved;
  const int64_t rotated = rotated_features(transformer.head_dim(), config);
  const auto wrap = [&](RotaryEmbedding rotary) {
    return std::unique_ptr<ModelRotaryEmbedding>(
        new ModelRotaryEmbedding(std::move(rotary), config));
  };
  if (transformer.mla.multi_latent_attention) return wrap(latent_attention_rotary(config));
  switch (config.position_embedding_type) {
    case PositionEmbeddingType::learned_absolute:
    case PositionEmbeddingType::none:
      return nullptr;
    case PositionEmbeddingType::yarn:
      return wrap({yarn_frequencies(transformer.head_dim(), config.rotary_base, transformer.yarn),
                   interleaved, yarn_concentration(transformer.yarn)});
    case PositionEmbeddingType::mrope:
      check(transformer.mrope_section.size() == 3,
            "Expected mrope_section of three numbers with mrope, but got {}",
            transformer.mrope_section.size());
      break;
    case PositionEmbeddingType::rope:
      break;
  }
  std::vector<double> frequencies = rope_frequencies(rotated, config.rotary_base);
  // Megatron does not scale mrope.
  if (config.rope_scaling && config.position_embedding_type == PositionEmbeddingType::rope) {
    frequencies = llama3_rescaled(std::move(frequencies), config.rope_scaling_factor);
  }
  return wrap({std::move(frequencies), interleaved});
}

RotaryTable ModelRotaryEmbedding::table(const at::Tensor& positions, const at::Tensor& position_ids,
                                        const std::optional<PackedSeqParams>& packed_seq_params,
                                        at::ScalarType dtype, at::Device device) const {
  if (!mrope_section_.empty()) {
    check(position_ids.defined(), "Expected position_ids with mrope, but got none");
    // Text has one position for all axes.
    const at::Tensor by_axis = position_ids.dim() == 2
                                   ? position_ids.unsqueeze(0).expand(
                                         {static_cast<int64_t>(mrope_section_.size()), -1, -1})
                                   : position_ids;
    return rotary_.table(by_axis.to(at::kDouble) * position_scale_, mrope_section_, dtype, device);
  }
  const at::Tensor in_sequence =
      packed_seq_params ? packed_seq_params->positions_in_sequence(positions) : positions;
  return rotary_.table(in_sequence.to(at::kDouble) * position_scale_, dtype, device);
}

}  // namespace megatron
