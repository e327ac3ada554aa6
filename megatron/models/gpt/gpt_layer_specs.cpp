#include "megatron/models/gpt/gpt_layer_specs.h"

namespace megatron {

TransformerLayerSubmodules gpt_layer_local_spec() {
  const auto norm = [](const TransformerConfig& config, const LayerOptions& options) {
    return std::make_shared<Norm>(config, config.hidden_size, options);
  };
  return {
      .input_layernorm = norm,
      .self_attention = {.core_attention =
                             [](const TransformerConfig& config, int64_t layer_number,
                                const LayerOptions& options) -> std::shared_ptr<CoreAttention> {
        return std::make_shared<DotProductAttention>(config, layer_number, options);
      }},
      .pre_mlp_layernorm = norm,
      .mlp = [](const TransformerConfig& config,
                const LayerOptions& options) { return std::make_shared<MLP>(config, options); },
  };
}

}  // namespace megatron
