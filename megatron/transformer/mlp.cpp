#include "megatron/transformer/mlp.h"

#include "megatron/ops/recompute.h"
#include "megatron/transformer/mlp_activation.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

ColumnParallelLinearArguments mlp_fc1_arguments(const TransformerConfig& config, int64_t f) {
  const int parts = config.gated_linear_unit ? 2 : 1;
  return {.input_size = config.hidden_size,
          .output_size = parts * f,
          .bias = config.has_mlp_bias(),
          .init_std = config.hidden_std(),
          .stride = parts,
          .skip_bias_add = true,
          .tp_comm_buffer_name = "fc1"};
}

RowParallelLinearArguments mlp_fc2_arguments(const TransformerConfig& config, int64_t f) {
  return {.input_size = f,
          .output_size = config.hidden_size,
          .bias = config.has_mlp_bias(),
          .init_std = config.output_layer_std(),
          .tp_comm_buffer_name = "fc2"};
}

MLP::MLP(const BuildArguments& arguments)
    : config_(arguments.config), activation_(mlp_activation(arguments.config)) {
  const TransformerConfig& config = config_;
  linear_fc1_ = register_module(
      "linear_fc1", column_linear_modules().build(arguments.at("linear_fc1"),
                                                  mlp_fc1_arguments(config, config.ffn_size())));
  linear_fc2_ = register_module(
      "linear_fc2", row_linear_modules().build(arguments.at("linear_fc2"),
                                               mlp_fc2_arguments(config, config.ffn_size())));
}

OutputAndBias MLP::forward(const at::Tensor& hidden_states, const ForwardContext&) const {
  const bool returns_normed = config_.apply_residual_connection_post_layernorm;
  const auto block = [this, returns_normed](const Tensors& list) {
    const ColumnLinear::Output fc1 = returns_normed
                                         ? linear_fc1_->forward_with_normed(list[0])
                                         : ColumnLinear::Output{linear_fc1_->forward(list[0]), {}};
    return Tensors{
        linear_fc2_->forward(bias_activation(fc1.output, linear_fc1_->bias(), activation_)),
        fc1.normed};
  };
  const Recomputation result(config_.recompute.selects("mlp"), block, {hidden_states});
  return {result.outputs()[0], linear_fc2_->bias(), result.outputs()[1]};
}

}  // namespace megatron
