#include "megatron/transformer/transformer_layer.h"

#include <ATen/record_function.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/ops/recompute.h"
#include "megatron/transformer/layer_backward_range.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {
namespace {

// Without a norm: x itself.
Recomputation normalize(const std::shared_ptr<Norm>& norm, const at::Tensor& x, bool recompute) {
  if (!norm) return {/*recompute=*/false, [](const Tensors& list) { return list; }, {x}};
  return {recompute,
          [norm = norm.get()](const Tensors& list) { return Tensors{norm->forward(list[0])}; },
          {x}};
}

void check_bias_dropout_add(const ModuleSpec& spec, const char* slot) {
  check(spec.submodule(slot).module == kBiasDropoutAdd, "Expected {} in the slot {}, but got {}",
        kBiasDropoutAdd, slot, spec.submodule(slot).module);
}

}  // namespace

TransformerLayer::TransformerLayer(const BuildArguments& arguments)
    : layer_number_(arguments.layer_number),
      hidden_dropout_(arguments.config.hidden_dropout),
      residual_after_norm_(arguments.config.apply_residual_connection_post_layernorm),
      recomputes_norms_(arguments.config.recompute.selects("layernorm")) {
  check_bias_dropout_add(arguments.spec, "self_attn_bda");
  check_bias_dropout_add(arguments.spec, "mlp_bda");
  const int64_t h = arguments.config.hidden_size;
  input_layernorm_ = build_norm(arguments.at("input_layernorm"), h);
  if (input_layernorm_) register_module("input_layernorm", input_layernorm_);
  // The gathered inputs of these modules are norm outputs, too: do not keep them either.
  LayerOptions after_norm = arguments.options;
  after_norm.all_gather_input_in_backward = recomputes_norms_;
  self_attention_ = register_module(
      "self_attention", attention_modules().build(arguments.at("self_attention").with(after_norm)));
  pre_mlp_layernorm_ = build_norm(arguments.at("pre_mlp_layernorm"), h);
  if (pre_mlp_layernorm_) register_module("pre_mlp_layernorm", pre_mlp_layernorm_);
  mlp_ = register_module("mlp", feed_forward_modules().build(arguments.at("mlp").with(after_norm)));
}

at::Tensor TransformerLayer::add_to_residual(const OutputAndBias& branch,
                                             const at::Tensor& hidden_states,
                                             const at::Tensor& normed, DropoutSite site,
                                             const ForwardContext& context) const {
  at::Tensor residual = hidden_states;
  if (residual_after_norm_) residual = branch.normed.defined() ? branch.normed : normed;
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
  const Recomputation norm = normalize(input_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias attention = self_attention_->forward(normed, input, context);
  const at::Tensor output = add_to_residual(attention, hidden_states, normed,
                                            DropoutSite::self_attention_output, context);
  norm.discard_outputs(/*result=*/attention.output);
  return output;
}

at::Tensor TransformerLayer::mlp_branch(const at::Tensor& hidden_states,
                                        const ForwardContext& context) const {
  const Recomputation norm = normalize(pre_mlp_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias mlp = mlp_->forward(normed, context);
  const at::Tensor output =
      add_to_residual(mlp, hidden_states, normed, DropoutSite::mlp_output, context);
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
