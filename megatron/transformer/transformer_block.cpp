#include "megatron/transformer/transformer_block.h"

#include <algorithm>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/ops/recompute.h"

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

PipelineStage PipelineStage::of(const PipelineLayout& layout, int rank, int chunk) {
  const PipelineChunk& held = layout.chunk(rank, chunk);
  return {
      .rank = rank,
      .size = layout.stages(),
      .pre_process = held.embedding,
      .post_process = held.loss,
      .first_layer = held.first_layer,
      .num_layers = held.num_layers,
      .chunk = chunk,
      .mtp_process = held.prediction,
      .receives_predictions = chunk * layout.stages() + rank > layout.prediction_virtual_stage()};
}

TransformerBlock::TransformerBlock(const TransformerConfig& config,
                                   const TransformerLayerSubmodules& submodules,
                                   const PipelineStage& stage, const LayerOptions& options)
    : recompute_(config.recompute) {
  for (int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer) {
    layers_.push_back(
        register_module(fmt::format("layers.{}", layer),
                        std::make_shared<TransformerLayer>(config, submodules,
                                                           /*layer_number=*/layer + 1, options)));
  }
  if (stage.normalizes(config)) {
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
      LayerInput own = input;
      own.attention_bias = bias;
      for (int64_t layer = first; layer < end; ++layer)
        x = layers_[layer]->forward(x, own, context);
      return x;
    };
    hidden_states =
        recompute_if(recomputed_end > first, layers, hidden_states, input.attention_bias);
  }
  return normalized(hidden_states);
}

}  // namespace megatron
