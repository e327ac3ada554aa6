#include "megatron/transformer/transformer_layer.h"

namespace megatron {

TransformerLayer::TransformerLayer(const TransformerConfig& config,
                                   const TransformerLayerSubmodules& submodules,
                                   int64_t layer_number, const LayerOptions& options)
    : layer_number_(layer_number), hidden_dropout_(config.hidden_dropout) {
  input_layernorm_ =
      register_module("input_layernorm", submodules.input_layernorm(config, options));
  self_attention_ = register_module(
      "self_attention",
      std::make_shared<SelfAttention>(config, submodules.self_attention, layer_number, options));
  pre_mlp_layernorm_ =
      register_module("pre_mlp_layernorm", submodules.pre_mlp_layernorm(config, options));
  mlp_ = register_module("mlp", submodules.mlp(config, options));
}

at::Tensor TransformerLayer::add_to_residual(const OutputAndBias& branch,
                                             const at::Tensor& residual, DropoutSite site,
                                             const ForwardContext& context) const {
  return bias_dropout_add(branch.output, branch.bias, residual,
                          context.dropout_probability(hidden_dropout_),
                          context.key(layer_number_, site), context.residual_index());
}

at::Tensor TransformerLayer::forward(const at::Tensor& hidden_states,
                                     const at::Tensor& attention_mask, const RotaryTable& rotary,
                                     const ForwardContext& context,
                                     InferenceContext* inference) const {
  const OutputAndBias attended = self_attention_->forward(
      input_layernorm_->forward(hidden_states), attention_mask, rotary, context, inference);
  const at::Tensor after_attention =
      add_to_residual(attended, hidden_states, DropoutSite::self_attention_output, context);
  return add_to_residual(mlp_->forward(pre_mlp_layernorm_->forward(after_attention)),
                         after_attention, DropoutSite::mlp_output, context);
}

}  // namespace megatron
