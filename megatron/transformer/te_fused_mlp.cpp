#include "megatron/transformer/te_fused_mlp.h"

#include "megatron/base/error.h"
#include "megatron/ops/recompute.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/mlp_activation.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

TEFusedMLP::TEFusedMLP(const BuildArguments& arguments)
    : tp_(arguments.options.tp), recomputes_(arguments.config.recompute.selects("mlp")) {
  const TransformerConfig& config = arguments.config;
  const LayerOptions& options = arguments.options;
  check(!config.apply_residual_connection_post_layernorm,
        "Expected apply_residual_connection_post_layernorm=false with TEFusedMLP, which keeps no "
        "normalized input, but got true; MLP has it");
  check(!options.compute_dtype, "Expected no autocast with TEFusedMLP, but got one; MLP has it");
  linear_fc1_ =
      std::dynamic_pointer_cast<LayerNormColumnParallelLinear>(column_linear_modules().build(
          arguments.at("linear_fc1"), mlp_fc1_arguments(config, config.ffn_size())));
  check(linear_fc1_ != nullptr,
        "Expected TELayerNormColumnParallelLinear as linear_fc1 of TEFusedMLP, but got {}; MLP "
        "takes it",
        arguments.at("linear_fc1").spec.module);
  linear_fc2_ = std::dynamic_pointer_cast<RowParallelLinear>(row_linear_modules().build(
      arguments.at("linear_fc2"), mlp_fc2_arguments(config, config.ffn_size())));
  check(linear_fc2_ != nullptr,
        "Expected TERowParallelLinear as linear_fc2 of TEFusedMLP, but got {}; MLP takes it",
        arguments.at("linear_fc2").spec.module);
  check(
      !linear_fc1_->quantizer() && !linear_fc2_->quantizer(),
      "Expected no fp8 with TEFusedMLP, whose operator is in high precision, but got it; MLP has it");
  register_module("linear_fc1", linear_fc1_);
  register_module("linear_fc2", linear_fc2_);
  parameters_ = {.norm_weight = linear_fc1_->norm().weight,
                 .norm_bias = linear_fc1_->norm().bias,
                 .fc1_weight = linear_fc1_->weight(),
                 .fc1_bias = linear_fc1_->bias_parameter(),
                 .fc2_weight = linear_fc2_->weight()};
  options_ = {.norm = linear_fc1_->norm().options,
              .activation = mlp_activation(config),
              .tp = tp_.get(),
              .sequence_parallel = options.sequence_parallel,
              .tp_comm_overlap = options.tp_comm_overlap,
              .fc1_overlap = options.overlap_of("fc1", LinearOverlap::of_column_parallel()),
              .fc2_overlap = options.overlap_of("fc2", LinearOverlap::of_row_parallel())};
}

OutputAndBias TEFusedMLP::forward(const at::Tensor& hidden_states, const ForwardContext&) const {
  const auto block = [this](const at::Tensor& x) { return fused_mlp(x, parameters_, options_); };
  return {recompute_if(recomputes_, block, hidden_states), linear_fc2_->bias(), at::Tensor()};
}

}  // namespace megatron
