// One depth of multi-token prediction (DeepSeek-V3 technical report, 2024, section 2.2).
#pragma once

#include "megatron/tensor_parallel/parallel_linear.h"
#include "megatron/transformer/base_transformer_layer.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/norm.h"

namespace megatron {

class MultiTokenPredictionLayer : public MegatronModule {
 public:
  // Slots: enorm, hnorm, eh_proj, mtp_model_layer (a transformer layer), layer_norm. The layer
  // number is that among the MTP layers.
  explicit MultiTokenPredictionLayer(const BuildArguments& arguments);

  // final_layernorm(mtp_model_layer(eh_proj([enorm(next_embedding); hnorm(hidden_states)]))).
  // hidden_states of the previous depth and the embedding of the token after the last one they
  // have seen, both [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(const at::Tensor& hidden_states, const at::Tensor& next_embedding,
                     const LayerInput& input, const ForwardContext& context) const;

 private:
  LayerOptions options_;
  bool fp32_residual_;
  std::shared_ptr<Norm> enorm_, hnorm_, final_layernorm_;
  std::shared_ptr<ColumnLinear> eh_proj_;
  std::shared_ptr<BaseTransformerLayer> mtp_model_layer_;
};

}  // namespace megatron
