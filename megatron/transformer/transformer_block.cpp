#include "megatron/transformer/transformer_block.h"

#include "megatron/base/error.h"

namespace megatron {

PipelineStage PipelineStage::even(int64_t num_layers, int rank, int size) {
  const int64_t layers = divide(num_layers, size, "num_layers");
  return {.rank = rank,
          .size = size,
          .pre_process = rank == 0,
          .post_process = rank == size - 1,
          .first_layer = rank * layers,
          .num_layers = layers};
}

TransformerBlock::TransformerBlock(const TransformerConfig& config,
                                   const TransformerLayerSubmodules& submodules,
                                   const PipelineStage& stage, const LayerOptions& options) {
  for (int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer) {
    layers_.push_back(
        register_module(fmt::format("layers.{}", layer),
                        std::make_shared<TransformerLayer>(config, submodules,
                                                           /*layer_number=*/layer + 1, options)));
  }
  if (stage.post_process) {
    final_layernorm_ = register_module("final_layernorm",
                                       std::make_shared<Norm>(config, config.hidden_size, options));
  }
}

at::Tensor TransformerBlock::forward(at::Tensor hidden_states, const LayerInput& input,
                                     const ForwardContext& context) const {
  for (const auto& layer : layers_) hidden_states = layer->forward(hidden_states, input, context);
  return normalized(hidden_states);
}

}  // namespace megatron
