#include "megatron/transformer/transformer_block.h"

#include <algorithm>

#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/ops/recompute.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

TransformerBlockSubmodules block_submodules(const LayerSpec& spec, const TransformerConfig& config,
                                            const PipelineStage& stage) {
  const auto layers = static_cast<size_t>(stage.num_layers);
  if (const auto* layer = std::get_if<ModuleSpec>(&spec)) {
    return {.layer_specs = std::vector<ModuleSpec>(layers, *layer),
            .layer_norm = {.module = "TENorm"}};
  }
  TransformerBlockSubmodules block = std::get<TransformerBlockSubmodules>(spec);
  const size_t given = block.layer_specs.size();
  if (given == layers) return block;
  check(given == static_cast<size_t>(config.num_layers),
        "Expected a block spec of {} layers, as this chunk has, or of all {} layers of the model, "
        "but got {}",
        layers, config.num_layers, given);
  const auto first = block.layer_specs.begin() + stage.first_layer;
  block.layer_specs = {first, first + stage.num_layers};
  return block;
}

TransformerBlock::TransformerBlock(const TransformerConfig& config, const LayerSpec& spec,
                                   const PipelineStage& stage, const LayerOptions& options)
    : recompute_(config.recompute) {
  check_supported(config);
  const TransformerBlockSubmodules submodules = block_submodules(spec, config, stage);
  for (int64_t i = 0; i < stage.num_layers; ++i) {
    const int64_t layer = stage.first_layer + i;
    layers_.push_back(
        register_module(fmt::format("layers.{}", layer),
                        layer_modules().build({submodules.layer_specs[i], config, options,
                                               /*layer_number=*/layer + 1})));
  }
  if (!stage.has_final_layernorm(config)) return;
  final_layernorm_ = build_norm({submodules.layer_norm, config, options}, config.hidden_size);
  if (final_layernorm_) register_module("final_layernorm", final_layernorm_);
}

int64_t TransformerBlock::recomputed_until(int64_t first) const {
  if (recompute_.recompute_granularity != RecomputeGranularity::full) return first;
  const int64_t layers = *recompute_.recompute_num_layers;
  if (recompute_.recompute_method == RecomputeMethod::uniform)
    return std::min(first + layers, std::ssize(layers_));
  return first < layers ? first + 1 : first;
}

at::Tensor TransformerBlock::forward(at::Tensor hidden_states, const LayerInput& input,
                                     const ForwardContext& context) const {
  for (int64_t first = 0, end; first < std::ssize(layers_); first = end) {
    const int64_t recomputed_end = input.inference ? first : recomputed_until(first);
    end = std::max(recomputed_end, first + 1);
    const auto layers = [this, first, end, input, context](at::Tensor x, const at::Tensor& bias) {
      LayerInput with_bias = input;
      with_bias.attention_bias = bias;
      for (int64_t layer = first; layer < end; ++layer)
        x = layers_[layer]->forward(x, with_bias, context);
      return x;
    };
    hidden_states =
        recompute_if(recomputed_end > first, layers, hidden_states, input.attention_bias);
  }
  return normalized(hidden_states);
}

}  // namespace megatron
