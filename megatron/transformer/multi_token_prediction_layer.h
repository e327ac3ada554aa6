// One depth of multi-token prediction (DeepSeek-V3 technical report, 2024, section 2.2).
#pragma once

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {

// An MTP layer's spec: a factory for each submodule.
struct MultiTokenPredictionLayerSubmodules {
  TransformerLayerSubmodules::NormFactory enorm, hnorm;
  TransformerLayerSubmodules mtp_model_layer;
  TransformerLayerSubmodules::NormFactory final_layernorm;
};

class MultiTokenPredictionLayer : public MegatronModule {
 public:
  // layer_number: number among the MTP layers, from 1.
  MultiTokenPredictionLayer(const TransformerConfig& config,
                            const MultiTokenPredictionLayerSubmodules& submodules,
                            int64_t layer_number, const LayerOptions& options);

  // final_layernorm(mtp_model_layer(eh_proj([enorm(next_embedding); hnorm(hidden_states)]))).
  // hidden_states of the previous depth and the embedding of the token after the last one they
  // have seen, both [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(const at::Tensor& hidden_states, const at::Tensor& next_embedding,
                     const LayerInput& input, const ForwardContext& context) const;

 private:
  LayerOptions options_;
  bool fp32_residual_;
  std::shared_ptr<Norm> enorm_, hnorm_, final_layernorm_;
  std::shared_ptr<ColumnParallelLinear> eh_proj_;
  std::shared_ptr<TransformerLayer> mtp_model_layer_;
};

}  // namespace megatron
