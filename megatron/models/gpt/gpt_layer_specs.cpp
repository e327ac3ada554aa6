#include "megatron/models/gpt/gpt_layer_specs.h"

#include "megatron/transformer/multi_latent_attention.h"
#include "megatron/transformer/self_attention.h"

namespace megatron {
namespace {

std::shared_ptr<Norm> hidden_norm(const TransformerConfig& config, const LayerOptions& options) {
  return std::make_shared<Norm>(config, config.hidden_size, options);
}

TransformerLayerSubmodules::AttentionFactory self_attention(const TransformerConfig& config) {
  SelfAttentionSubmodules submodules;
  submodules.core_attention = [](const TransformerConfig& c, int64_t layer_number,
                                 const LayerOptions& options) {
    return std::make_shared<DotProductAttention>(c, layer_number, options);
  };
  if (config.qk_layernorm) {
    submodules.q_layernorm =
        submodules.k_layernorm = [](const TransformerConfig& c, const LayerOptions& options) {
          return std::make_shared<Norm>(c, c.head_dim(), options);
        };
  }
  return
      [submodules](const TransformerConfig& c, int64_t layer_number, const LayerOptions& options) {
        return std::make_shared<SelfAttention>(c, submodules, layer_number, options);
      };
}

TransformerLayerSubmodules::AttentionFactory latent_attention(const TransformerConfig& config) {
  MLASelfAttentionSubmodules submodules;
  submodules.core_attention = [](const TransformerConfig& c, int64_t layer_number,
                                 double softmax_scale, const LayerOptions& options) {
    return std::make_shared<DotProductAttention>(c, layer_number, options, softmax_scale);
  };
  if (config.qk_layernorm) {
    submodules.q_layernorm = [](const TransformerConfig& c, const LayerOptions& options) {
      return std::make_shared<Norm>(c, c.mla.q_lora_rank.value(), options);
    };
    submodules.kv_layernorm = [](const TransformerConfig& c, const LayerOptions& options) {
      return std::make_shared<Norm>(c, c.mla.kv_lora_rank, options);
    };
  }
  return
      [submodules](const TransformerConfig& c, int64_t layer_number, const LayerOptions& options) {
        return std::make_shared<MLASelfAttention>(c, submodules, layer_number, options);
      };
}

}  // namespace

TransformerLayerSubmodules gpt_layer_local_spec(const TransformerConfig& config) {
  return {
      .input_layernorm = hidden_norm,
      .self_attention =
          config.mla.multi_latent_attention ? latent_attention(config) : self_attention(config),
      .pre_mlp_layernorm = hidden_norm,
      .mlp = [](const TransformerConfig& c,
                const LayerOptions& options) { return std::make_shared<MLP>(c, options); },
  };
}

std::optional<MultiTokenPredictionBlockSubmodules> gpt_mtp_block_local_spec(
    const TransformerConfig& config) {
  if (config.mtp.mtp_num_layers == 0) return std::nullopt;
  const MultiTokenPredictionLayerSubmodules layer{.enorm = hidden_norm,
                                                  .hnorm = hidden_norm,
                                                  .mtp_model_layer = gpt_layer_local_spec(config),
                                                  .final_layernorm = hidden_norm};
  const size_t layers = config.mtp.mtp_use_repeated_layer ? 1 : config.mtp.mtp_num_layers;
  return MultiTokenPredictionBlockSubmodules{
      .layers = std::vector<MultiTokenPredictionLayerSubmodules>(layers, layer)};
}

}  // namespace megatron
