#include "megatron/transformer/transformer_layer.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/ops/recompute.h"
#include "megatron/transformer/layer_backward_range.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {
namespace {

void check_bias_dropout_add(const ModuleSpec& spec, const char* slot) {
  check(spec.submodule(slot).module == kBiasDropoutAdd, "Expected {} in the slot {}, but got {}",
        kBiasDropoutAdd, slot, spec.submodule(slot).module);
}

}  // namespace

TransformerLayer::TransformerLayer(const BuildArguments& arguments)
    : layer_number_(arguments.layer_number),
      hidden_dropout_(arguments.config.hidden_dropout),
      residual_multiplier_(arguments.config.residual_multiplier),
      residual_after_norm_(arguments.config.apply_residual_connection_post_layernorm),
      recomputes_norms_(arguments.config.recompute.selects("layernorm")),
      autocast_dtype_(arguments.options.compute_dtype),
      is_parallel_(arguments.config.use_parallel_residual),
      shares_norm_(arguments.config.share_parallel_layernorm) {
  check_bias_dropout_add(arguments.spec, "self_attn_bda");
  check_bias_dropout_add(arguments.spec, "mlp_bda");
  const auto make_norm = [&](const char* slot) {
    const auto norm = build_norm(arguments.at(slot), arguments.config.hidden_size);
    return norm ? register_module(slot, norm) : norm;
  };
  input_layernorm_ = make_norm("input_layernorm");
  // The gathered inputs of these modules are norm outputs, too: do not keep them either.
  LayerOptions after_norm = arguments.options;
  after_norm.all_gather_input_in_backward = recomputes_norms_;
  self_attention_ = register_module(
      "self_attention", attention_modules().build(arguments.at("self_attention").with(after_norm)));
  post_self_attn_layernorm_ = make_norm("post_self_attn_layernorm");
  pre_mlp_layernorm_ = make_norm("pre_mlp_layernorm");
  mlp_ = register_module("mlp", feed_forward_modules().build(arguments.at("mlp").with(after_norm)));
  post_mlp_layernorm_ = make_norm("post_mlp_layernorm");
}

Recomputation TransformerLayer::normalize(const std::shared_ptr<Norm>& norm, const at::Tensor& x,
                                          bool recompute) {
  if (!norm) return {/*recompute=*/false, [](const Tensors& list) { return list; }, {x}};
  return {recompute,
          [norm = norm.get()](const Tensors& list) { return Tensors{norm->forward(list[0])}; },
          {x}};
}

at::Tensor TransformerLayer::add_to_residual(const OutputAndBias& branch,
                                             const std::shared_ptr<Norm>& post_norm,
                                             const at::Tensor& hidden_states,
                                             const at::Tensor& normed, DropoutSite site,
                                             const ForwardContext& context) const {
  at::Tensor residual = hidden_states;
  if (residual_after_norm_) residual = branch.normed.defined() ? branch.normed : normed;
  at::Tensor output = branch.output, bias = branch.bias;
  if (post_norm) {
    output = post_norm->forward(bias.defined() ? output + bias : output);
    bias.reset();
  }
  if (residual_multiplier_ != 1.0) {
    output = output * residual_multiplier_;
    if (bias.defined()) bias = bias * residual_multiplier_;
  }
  // An fp32 residual stream adds the branch in fp32.
  const auto widened = [&](const at::Tensor& x) {
    return x.defined() ? x.to(residual.scalar_type()) : x;
  };
  return bias_dropout_add(widened(output), widened(bias), residual,
                          context.dropout_probability(hidden_dropout_),
                          context.key(layer_number_, site), context.residual_index());
}

at::Tensor TransformerLayer::attention_branch(const at::Tensor& hidden_states,
                                              const LayerInput& input,
                                              const ForwardContext& context) const {
  const Recomputation norm = normalize(input_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias attention = self_attention_->forward(normed, input, context);
  const at::Tensor output = add_to_residual(attention, post_self_attn_layernorm_, hidden_states,
                                            normed, DropoutSite::self_attention_output, context);
  norm.discard_outputs(/*result=*/attention.output);
  return output;
}

at::Tensor TransformerLayer::mlp_branch(const at::Tensor& hidden_states,
                                        const ForwardContext& context) const {
  const Recomputation norm = normalize(pre_mlp_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias mlp = mlp_->forward(normed, context);
  const at::Tensor output = add_to_residual(mlp, post_mlp_layernorm_, hidden_states, normed,
                                            DropoutSite::mlp_output, context);
  norm.discard_outputs(/*result=*/mlp.output);
  return output;
}

at::Tensor TransformerLayer::parallel_mlp_branch(const at::Tensor& hidden_states,
                                                 const at::Tensor& residual,
                                                 const ForwardContext& context,
                                                 const Recomputation* shared_norm) const {
  const Recomputation norm = normalize(pre_mlp_layernorm_, hidden_states, recomputes_norms_);
  const OutputAndBias mlp = mlp_->forward(norm.outputs()[0], context);
  const at::Tensor output = add_to_residual(mlp, /*post_norm=*/nullptr, residual,
                                            /*normed=*/residual, DropoutSite::mlp_output, context);
  norm.discard_outputs(/*result=*/mlp.output);
  if (shared_norm != nullptr) shared_norm->discard_outputs(/*result=*/mlp.output);
  return output;
}

at::Tensor TransformerLayer::parallel_branches(const at::Tensor& hidden_states,
                                               const LayerInput& input,
                                               const ForwardContext& context,
                                               bool first_half) const {
  const Recomputation norm = normalize(input_layernorm_, hidden_states, recomputes_norms_);
  const at::Tensor& normed = norm.outputs()[0];
  const OutputAndBias attention = self_attention_->forward(normed, input, context);
  const at::Tensor residual = add_to_residual(attention, /*post_norm=*/nullptr, hidden_states,
                                              normed, DropoutSite::self_attention_output, context);
  // With a shared norm, pre_mlp_layernorm is empty.
  const at::Tensor& mlp_input = shares_norm_ ? normed : hidden_states;
  // Backward reads a shared norm's output in the MLP first, if that is in the same graph. The layer's
  // output is no place for it: sharded parameters, the norm's too, are gathered when its gradient
  // is known.
  const bool mlp_is_first = shares_norm_ && !first_half;
  const at::Tensor output = first_half ? at::stack({mlp_input.to(residual.scalar_type()), residual})
                                       : parallel_mlp_branch(mlp_input, residual, context,
                                                             mlp_is_first ? &norm : nullptr);
  if (!mlp_is_first) norm.discard_outputs(/*result=*/attention.output);
  return output;
}

at::Tensor TransformerLayer::forward(const at::Tensor& hidden_states, const LayerInput& input,
                                     const ForwardContext& context) const {
  RECORD_USER_SCOPE(fmt::format("layer {}", layer_number_));
  const at::Tensor output = with_hooks([&] {
    if (is_parallel_) return parallel_branches(hidden_states, input, context, /*first_half=*/false);
    return mlp_branch(attention_branch(hidden_states, input, context), context);
  });
  trace_layer_backward(layer_number_, hidden_states, output);
  return output;
}

at::Tensor TransformerLayer::forward_attention(const at::Tensor& hidden_states,
                                               const LayerInput& input,
                                               const ForwardContext& context) const {
  return with_hooks([&] {
    if (is_parallel_) return parallel_branches(hidden_states, input, context, /*first_half=*/true);
    return attention_branch(hidden_states, input, context);
  });
}

at::Tensor TransformerLayer::forward_mlp(const at::Tensor& hidden_states,
                                         const ForwardContext& context) const {
  return with_hooks([&] {
    if (is_parallel_) {
      at::Tensor mlp_input = hidden_states[0];
      // A shared norm's output has the compute dtype, also beside an fp32 residual stream.
      if (shares_norm_) {
        mlp_input = mlp_input.to(
            autocast_dtype_.value_or(input_layernorm_->parameters().front()->data.scalar_type()));
      }
      return parallel_mlp_branch(mlp_input, hidden_states[1], context);
    }
    return mlp_branch(hidden_states, context);
  });
}

}  // namespace megatron
