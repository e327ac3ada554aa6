#include "megatron/transformer/moe/shared_experts.h"

#include <ATen/ATen.h>

#include "megatron/ops/recompute.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/mlp_activation.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

SharedExperts::SharedExperts(const BuildArguments& arguments)
    : options_(arguments.options),
      activation_(mlp_activation(arguments.config)),
      recomputes_(arguments.config.recompute.selects("shared_experts")) {
  const TransformerConfig& config = arguments.config;
  const int64_t h = config.hidden_size, f = *config.moe.moe_shared_expert_intermediate_size;
  check_slots(arguments.spec, {"linear_fc1", "linear_fc2"});
  check_params(arguments.spec, {});
  linear_fc1_ = register_module(
      "linear_fc1",
      column_linear_modules().build(arguments.at("linear_fc1"), mlp_fc1_arguments(config, f)));
  linear_fc2_ = register_module(
      "linear_fc2",
      row_linear_modules().build(arguments.at("linear_fc2"), mlp_fc2_arguments(config, f)));
  if (!config.moe.moe_shared_expert_gate) return;
  gate_weight_ = register_parameter(
      "gate_weight",
      std::make_shared<Parameter>(std::vector<int64_t>{1, h}, options_.tensor, options_.sharding(),
                                  Initialization::normal(config.hidden_std())));
  gate_weight_->sequence_parallel = options_.sequence_parallel;
}

at::Tensor SharedExperts::mlp(const at::Tensor& hidden_states) const {
  at::Tensor output = linear_fc2_->forward(
      bias_activation(linear_fc1_->forward(hidden_states), linear_fc1_->bias(), activation_));
  if (const at::Tensor bias = linear_fc2_->bias(); bias.defined()) output = output + bias;
  if (!gate_weight_) return output;
  return output * at::linear(hidden_states, options_.cast(gate_weight_->data)).sigmoid();
}

at::Tensor SharedExperts::forward(const at::Tensor& hidden_states) const {
  return recompute_if(
      recomputes_, [this](const at::Tensor& input) { return mlp(input); }, hidden_states);
}

}  // namespace megatron
