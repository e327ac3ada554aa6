#include "megatron/models/gpt/gpt_layer_specs.h"

#include "megatron/transformer/multi_latent_attention.h"
#include "megatron/transformer/self_attention.h"

namespace megatron {
namespace {

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
  const auto norm = [](const TransformerConfig& c, const LayerOptions& options) {
    return std::make_shared<Norm>(c, c.hidden_size, options);
  };
  return {
      .input_layernorm = norm,
      .self_attention =
          config.mla.multi_latent_attention ? latent_attention(config) : self_attention(config),
      .pre_mlp_layernorm = norm,
      .mlp = [](const TransformerConfig& c,
                const LayerOptions& options) { return std::make_shared<MLP>(c, options); },
  };
}

}  // namespace megatron
