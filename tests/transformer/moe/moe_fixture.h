// A layer with experts for tests, in one rank or in a world of threads.
#pragma once

#include <ATen/ATen.h>

#include "megatron/models/common/initialize_weights.h"
#include "megatron/transformer/module_registry.h"
#include "megatron/transformer/moe/moe_layer.h"

namespace megatron {

inline TransformerConfig moe_config(int64_t experts, int64_t topk) {
  TransformerConfig config;
  config.num_layers = 1;
  config.hidden_size = 8;
  config.num_attention_heads = 2;
  config.ffn_hidden_size = 16;
  config.add_bias_linear = false;
  config.activation_func = ActivationFunction::silu;
  config.gated_linear_unit = true;
  config.init_method_std = 0.5;
  config.moe.num_moe_experts = experts;
  config.moe.moe_router_topk = topk;
  config.moe.moe_token_dispatcher_type = MoeTokenDispatcherType::alltoall;
  return config;
}

inline ModuleSpec moe_layer_spec(const TransformerConfig& config) {
  ModuleSpec spec{.module = "MoELayer",
                  .params = {},
                  .submodules = {{"router", {.module = "TopKRouter"}},
                                 {"experts", {.module = "SequentialMLP"}}},
                  .sharded_state_dict_keys_map = {}};
  if (config.moe.moe_shared_expert_intermediate_size) {
    spec.submodules["shared_experts"] = {
        .module = "SharedExpertMLP",
        .params = {},
        .submodules = {{"linear_fc1", {.module = "ColumnParallelLinear"}},
                       {"linear_fc2", {.module = "RowParallelLinear"}}},
        .sharded_state_dict_keys_map = {}};
  }
  return spec;
}

inline std::shared_ptr<MoELayer> build_moe(
    const TransformerConfig& config, at::ScalarType dtype = at::kDouble,
    const ProcessGroupCollection& groups = ProcessGroupCollection::single_rank()) {
  const ModuleSpec spec = moe_layer_spec(config);
  const LayerOptions options{.tensor = at::TensorOptions(dtype),
                             .tp = groups.tp,
                             .sequence_parallel = config.sequence_parallel,
                             .cp = groups.cp,
                             .groups = std::make_shared<const ProcessGroupCollection>(groups)};
  const auto layer =
      std::dynamic_pointer_cast<MoELayer>(feed_forward_modules().build({spec, config, options}));
  layer->assign_names("decoder.layers.0.mlp.");
  initialize_weights(*layer, /*seed=*/7);
  return layer;
}

// Different numbers for each global position and row.
inline at::Tensor moe_input(int64_t s, int64_t b, int64_t h, double phase = 0) {
  return at::sin(at::arange(s * b * h, at::kDouble) * 1.7 + phase).view({s, b, h});
}

inline ForwardContext moe_context(bool training, int64_t s, int64_t b) {
  return ForwardContext::make(training, /*seed=*/3, at::arange(b, at::kLong), s, false, 0, 1);
}

}  // namespace megatron
