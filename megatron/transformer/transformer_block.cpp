#include "megatron/transformer/transformer_block.h"

#include <algorithm>

#include "megatron/base/integer_math.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/ops/recompute.h"

namespace megatron {

TransformerBlock::TransformerBlock(const TransformerConfig& config,
                                   const TransformerLayerSubmodules& submodules,
                                   const PipelineStage& stage, const LayerOptions& options)
    : recompute_(config.recompute) {
  check_supported(config);
  for (int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer) {
    layers_.push_back(
        register_module(fmt::format("layers.{}", layer),
                        std::make_shared<TransformerLayer>(config, submodules,
                                                           /*layer_number=*/layer + 1, options)));
  }
  if (stage.has_final_layernorm(config)) {
    final_layernorm_ = register_module("final_layernorm",
                                       std::make_shared<Norm>(config, config.hidden_size, options));
  }
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
