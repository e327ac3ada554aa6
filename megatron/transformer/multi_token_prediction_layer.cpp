#include "megatron/transformer/multi_token_prediction_layer.h"

#include <ATen/ops/cat.h>

#include "megatron/base/dtype.h"
#include "megatron/parallel/collectives.h"

namespace megatron {

MultiTokenPredictionLayer::MultiTokenPredictionLayer(
    const TransformerConfig& config, const MultiTokenPredictionLayerSubmodules& submodules,
    int64_t layer_number, const LayerOptions& options)
    : options_(options), fp32_residual_(config.fp32_residual_connection) {
  enorm_ = register_module("enorm", submodules.enorm(config, options));
  hnorm_ = register_module("hnorm", submodules.hnorm(config, options));
  eh_proj_ = register_module("eh_proj",
                             std::make_shared<ColumnParallelLinear>(
                                 ColumnParallelLinearArguments{.input_size = 2 * config.hidden_size,
                                                               .output_size = config.hidden_size,
                                                               .bias = false,
                                                               .init_std = config.hidden_std(),
                                                               .gather_output = true},
                                 options));
  mtp_model_layer_ = register_module(
      "mtp_model_layer", std::make_shared<TransformerLayer>(config, submodules.mtp_model_layer,
                                                            layer_number, options));
  final_layernorm_ =
      register_module("final_layernorm", submodules.final_layernorm(config, options));
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
