#include "megatron/transformer/multi_token_prediction.h"

#include <ATen/core/grad_mode.h>

#include "megatron/base/error.h"
#include "megatron/ops/recompute.h"
#include "megatron/transformer/roll_left.h"

namespace megatron {

MultiTokenPredictionBlock::MultiTokenPredictionBlock(
    const TransformerConfig& config, const MultiTokenPredictionBlockSubmodules& submodules,
    const LayerOptions& options)
    : cp_(options.cp),
      num_depths_(config.mtp.mtp_num_layers),
      num_decoder_layers_(config.num_layers),
      detach_heads_(config.mtp.mtp_detach_heads),
      recomputes_(config.recompute.recompute_granularity == RecomputeGranularity::full &&
                  config.recompute.recompute_method == RecomputeMethod::uniform) {
  const auto expected = static_cast<size_t>(config.mtp.mtp_use_repeated_layer ? 1 : num_depths_);
  check(num_depths_ > 0 && submodules.layers.size() == expected,
        "Expected the specs of {} prediction layers for mtp_num_layers {}{}, but got {}", expected,
        num_depths_, config.mtp.mtp_use_repeated_layer ? " of one repeated layer" : "",
        submodules.layers.size());
  for (size_t i = 0; i < expected; ++i) {
    layers_.push_back(register_module(
        fmt::format("layers.{}", i),
        std::make_shared<MultiTokenPredictionLayer>(
            config, submodules.layers[i], /*layer_number=*/static_cast<int64_t>(i) + 1, options)));
  }
  if (!detach_heads_) return;
  for (const ParameterPtr& parameter : parameters()) {
    parameter->gradient_norm_group = GradientNormGroup::multi_token_prediction;
  }
}

std::vector<at::Tensor> MultiTokenPredictionBlock::forward(
    at::Tensor hidden_states, at::Tensor input_ids, at::Tensor position_ids,
    const TokenEmbedding& embedding, const LayerInput& input, const ForwardContext& context) const {
  const auto embedded = [&](const ForwardContext& at_depth) {
    const at::AutoGradMode grad_mode(at::GradMode::is_enabled() && !detach_heads_);
    return embedding(input_ids, position_ids, at_depth);
  };
  if (detach_heads_) hidden_states = hidden_states.detach();
  std::vector<at::Tensor> by_depth;
  for (int64_t depth = 0; depth < num_depths_; ++depth) {
    ForwardContext at_depth = context;
    at_depth.layer_offset = num_decoder_layers_ + depth;
    input_ids = roll_left(input_ids, input.packed_seq_params, cp_.get());
    if (position_ids.defined())
      position_ids = roll_left(position_ids, input.packed_seq_params, cp_.get());
    const auto predict = [layer = layers_[layers_.size() == 1 ? 0 : depth], input, at_depth](
                             const at::Tensor& hidden, const at::Tensor& next_embedding,
                             const at::Tensor& bias) {
      LayerInput own = input;
      own.attention_bias = bias;
      return layer->forward(hidden, next_embedding, own, at_depth);
    };
    hidden_states =
        recompute_if(recomputes_, predict, hidden_states, embedded(at_depth), input.attention_bias);
    by_depth.push_back(hidden_states);
  }
  return by_depth;
}

}  // namespace megatron
