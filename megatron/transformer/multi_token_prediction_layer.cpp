#include "megatron/transformer/multi_token_prediction_layer.h"

#include <ATen/ops/cat.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/parallel/collectives.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

MultiTokenPredictionLayer::MultiTokenPredictionLayer(const BuildArguments& arguments)
    : options_(arguments.options), fp32_residual_(arguments.config.fp32_residual_connection) {
  const TransformerConfig& config = arguments.config;
  const auto make_norm = [&](const char* slot) {
    check(!arguments.spec.submodule(slot).is_identity(),
          "Expected a norm in the slot {} of an MTP layer, but got none", slot);
    return build_norm(arguments.at(slot), config.hidden_size);
  };
  enorm_ = register_module("enorm", make_norm("enorm"));
  hnorm_ = register_module("hnorm", make_norm("hnorm"));
  eh_proj_ = register_module(
      "eh_proj",
      column_linear_modules().build(arguments.at("eh_proj"), {.input_size = 2 * config.hidden_size,
                                                              .output_size = config.hidden_size,
                                                              .bias = false,
                                                              .init_std = config.hidden_std(),
                                                              .gather_output = true}));
  mtp_model_layer_ =
      register_module("mtp_model_layer", layer_modules().build(arguments.at("mtp_model_layer")));
  final_layernorm_ = register_module("final_layernorm", make_norm("layer_norm"));
}

at::Tensor MultiTokenPredictionLayer::forward(const at::Tensor& hidden_states,
                                              const at::Tensor& next_embedding,
                                              const LayerInput& input,
                                              const ForwardContext& context) const {
  const at::Tensor concatenated =
      at::cat({enorm_->forward(next_embedding), hnorm_->forward(hidden_states)}, -1);
  at::Tensor combined = eh_proj_->forward(concatenated);
  if (options_.sequence_parallel)
    combined = scatter_to_sequence_parallel_region(combined, *options_.tp);
  if (fp32_residual_) combined = combined.to(accumulation_dtype(combined.scalar_type()));
  return final_layernorm_->forward(mtp_model_layer_->forward(combined, input, context));
}

}  // namespace megatron
