#include "megatron/transformer/transformer_layer.h"

#include <ATen/record_function.h>
#include <fmt/format.h>

#include "megatron/ops/recompute.h"
#include "megatron/transformer/layer_backward_range.h"

namespace megatron {
namespace {

Recomputation normalize(const Norm& norm, const at::Tensor& x, bool recompute) {
  return {recompute, [&norm](const Tensors& list) { return Tensors{norm.forward(list[0])}; }, {x}};
}

}  // namespace

TransformerLayer::TransformerLayer(const TransformerConfig& config,
                                   const TransformerLayerSubmodules& submodules,
                                   int64_t layer_number, const LayerOptions& options)
    : layer_number_(layer_number),
      hidden_dropout_(config.hidden_dropout),
      residual_after_norm_(config.apply_residual_connection_post_layernorm),
      recomputes_norms_(config.recompute.selects("layernorm")) {
  input_layernorm_ =
      register_module("input_layernorm", submodules.input_layernorm(config, options));
  // The gathered inputs of these modules are norm outputs, too: do not keep them either.
  LayerOptions after_norm = options;
  after_norm.all_gather_input_in_backward = recomputes_norms_;
  self_attention_ = register_module("self_attention",
                                    submodules.self_attention(config, layer_number, after_norm));
  pre_mlp_layernorm_ =
      register_module("pre_mlp_layernorm", submodules.pre_mlp_layernorm(config, options));
  mlp_ = register_module("mlp", submodules.mlp(config, after_norm));
}

at::Tensor TransformerLayer::add_to_residual(const OutputAndBias& branch,
                                             const at::Tensor& residual, DropoutSite site,
                                             const ForwardContext& context) const {
  // An fp32 residual stream adds the branch in fp32.
  const auto widened = [&](const at::Tensor& x) {
    return x.defined() ? x.to(residual.scalar_type()) : x;
  };
  return bias_dropout_add(widened(branch.output), widened(branch.bias), residual,
                          context.dropout_probability(hidden_dropout_),
                          context.key(layer_number_, site), context.residual_index());
}

at::Tensor TransformerLayer::attention_branch(const at::Tensor& hidden_states,
                                              const LayerInput& input,
                                              const ForwardContext& context) const {
  const Recomputation norm = normalize(*input_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias attention = self_attention_->forward(normed, input, context);
  const at::Tensor output =
      add_to_residual(attention, residual_after_norm_ ? normed : hidden_states,
                      DropoutSite::self_attention_output, context);
  norm.discard_outputs(/*result=*/attention.output);
  return output;
}

at::Tensor TransformerLayer::mlp_branch(const at::Tensor& hidden_states,
                                        const ForwardContext& context) const {
  const Recomputation norm = normalize(*pre_mlp_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias mlp = mlp_->forward(normed);
  const at::Tensor output = add_to_residual(mlp, residual_after_norm_ ? normed : hidden_states,
                                            DropoutSite::mlp_output, context);
  norm.discard_outputs(/*result=*/mlp.output);
  return output;
}

at::Tensor TransformerLayer::forward(const at::Tensor& hidden_states, const LayerInput& input,
                                     const ForwardContext& context) const {
  RECORD_USER_SCOPE(fmt::format("layer {}", layer_number_));
  const at::Tensor output = with_hooks(
      [&] { return mlp_branch(attention_branch(hidden_states, input, context), context); });
  trace_layer_backward(layer_number_, hidden_states, output);
  return output;
}

at::Tensor TransformerLayer::forward_attention(const at::Tensor& hidden_states,
                                               const LayerInput& input,
                                               const ForwardContext& context) const {
  return with_hooks([&] { return attention_branch(hidden_states, input, context); });
}

at::Tensor TransformerLayer::forward_mlp(const at::Tensor& hidden_states,
                                         const ForwardContext& context) const {
  return with_hooks([&] { return mlp_branch(hidden_states, context); });
}

}  // namespace megatron
