// The layers of one pipeline stage, with the final norm on the last one.
#pragma once

#include "megatron/transformer/transformer_layer.h"

namespace megatron {

// Which part of the model a pipeline stage holds.
struct PipelineStage {
  int rank = 0;
  int size = 1;
  bool pre_process = true;   // holds the embedding
  bool post_process = true;  // holds the final norm and the output layer
  int64_t first_layer = 0;   // global, from 0
  int64_t num_layers = 0;

  // An even split. Throws Error where the layers do not divide.
  static PipelineStage even(int64_t num_layers, int rank, int size);
};

class TransformerBlock : public MegatronModule {
 public:
  TransformerBlock(const TransformerConfig& config, const TransformerLayerSubmodules& submodules,
                   const PipelineStage& stage, const LayerOptions& options);

  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(at::Tensor hidden_states, const LayerInput& input,
                     const ForwardContext& context) const;

 private:
  std::vector<std::shared_ptr<TransformerLayer>> layers_;
  std::shared_ptr<Norm> final_layernorm_;  // null but on the last stage
};

}  // namespace megatron
