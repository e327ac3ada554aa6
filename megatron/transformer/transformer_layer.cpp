#include "megatron/transformer/transformer_layer.h"

namespace megatron {

TransformerLayer::TransformerLayer(const TransformerConfig& config,
                                   const TransformerLayerSubmodules& submodules,
                                   int64_t layer_number, const LayerOptions& options)
    : layer_number_(layer_number),
      hidden_dropout_(config.hidden_dropout),
      residual_behind_norm_(config.apply_residual_connection_post_layernorm) {
  input_layernorm_ =
      register_module("input_layernorm", submodules.input_layernorm(config, options));
  self_attention_ =
      register_module("self_attention", submodules.self_attention(config, layer_number, options));
  pre_mlp_layernorm_ =
      register_module("pre_mlp_layernorm", submodules.pre_mlp_layernorm(config, options));
  mlp_ = register_module("mlp", submodules.mlp(config, options));
}

at::Tensor TransformerLayer::add_to_residual(const OutputAndBias& branch,
                                             const at::Tensor& residual, DropoutSite site,
                                             const ForwardContext& context) const {
  // With an fp32 residual stream the branch joins it in fp32.
  const auto widened = [&](const at::Tensor& x) {
    return x.defined() ? x.to(residual.scalar_type()) : x;
  };
  return bias_dropout_add(widened(branch.output), widened(branch.bias), residual,
                          context.dropout_probability(hidden_dropout_),
                          context.key(layer_number_, site), context.residual_index());
}

at::Tensor TransformerLayer::forward_attention(const at::Tensor& hidden_states,
                                               const LayerInput& input,
                                               const ForwardContext& context) const {
  const at::Tensor normed = input_layernorm_->forward(hidden_states);
  return add_to_residual(self_attention_->forward(normed, input, context),
                         residual_behind_norm_ ? normed : hidden_states,
                         DropoutSite::self_attention_output, context);
}

at::Tensor TransformerLayer::forward_mlp(const at::Tensor& hidden_states,
                                         const ForwardContext& context) const {
  const at::Tensor normed = pre_mlp_layernorm_->forward(hidden_states);
  return add_to_residual(mlp_->forward(normed), residual_behind_norm_ ? normed : hidden_states,
                         DropoutSite::mlp_output, context);
}

at::Tensor TransformerLayer::forward(const at::Tensor& hidden_states, const LayerInput& input,
                                     const ForwardContext& context) const {
  return forward_mlp(forward_attention(hidden_states, input, context), context);
}

}  // namespace megatron
