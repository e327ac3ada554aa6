#include "megatron/models/gpt/gpt_layer_specs.h"

#include "megatron/transformer/self_attention.h"

namespace megatron {

TransformerLayerSubmodules gpt_layer_local_spec(const TransformerConfig& config) {
  const auto norm = [](const TransformerConfig& c, const LayerOptions& options) {
    return std::make_shared<Norm>(c, c.hidden_size, options);
  };
  SelfAttentionSubmodules attention;
  attention.core_attention = [](const TransformerConfig& c, int64_t layer_number,
                                const LayerOptions& options) -> std::shared_ptr<CoreAttention> {
    return std::make_shared<DotProductAttention>(c, layer_number, options);
  };
  if (config.qk_layernorm) {
    attention.q_layernorm =
        attention.k_layernorm = [](const TransformerConfig& c, const LayerOptions& options) {
          return std::make_shared<Norm>(c, c.head_dim(), options);
        };
  }
  return {
      .input_layernorm = norm,
      .self_attention = [attention](const TransformerConfig& c, int64_t layer_number,
                                    const LayerOptions& options) -> std::shared_ptr<Attention> {
        return std::make_shared<SelfAttention>(c, attention, layer_number, options);
      },
      .pre_mlp_layernorm = norm,
      .mlp = [](const TransformerConfig& c,
                const LayerOptions& options) { return std::make_shared<MLP>(c, options); },
  };
}

}  // namespace megatron
