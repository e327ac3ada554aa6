// The layers of one chunk of a pipeline stage, with the final norm behind the last one.
#pragma once

#include "megatron/config/model/pipeline_layout.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {

// Which part of the model one chunk of a pipeline stage holds.
struct PipelineStage {
  int rank = 0;
  int size = 1;
  bool pre_process = true;   // holds the embedding
  bool post_process = true;  // holds the output layer
  int64_t first_layer = 0;   // global, from 0
  int64_t num_layers = 0;
  int chunk = 0;
  // Holds the prediction layers, where the model has any; where not given, with the output layer.
  std::optional<bool> mtp_process = {};
  // Prediction layers of an earlier chunk send their hidden states along: [(1 + depths) s, b, h].
  bool receives_predictions = false;

  static PipelineStage of(const PipelineLayout& layout, int rank, int chunk);
  // An even split. Throws Error where the layers do not divide.
  static PipelineStage even(int64_t num_layers, int rank, int size);

  bool predicts(const TransformerConfig& config) const {
    return config.mtp.mtp_num_layers > 0 && mtp_process.value_or(post_process);
  }
  // Holds the final norm: it comes before prediction layers and output layer.
  bool normalizes(const TransformerConfig& config) const {
    return config.mtp.mtp_num_layers > 0 ? predicts(config) : post_process;
  }
};

class TransformerBlock : public MegatronModule {
 public:
  TransformerBlock(const TransformerConfig& config, const TransformerLayerSubmodules& submodules,
                   const PipelineStage& stage, const LayerOptions& options);

  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(at::Tensor hidden_states, const LayerInput& input,
                     const ForwardContext& context) const;

  // The parts of forward, for those who run them one by one.
  const std::vector<std::shared_ptr<TransformerLayer>>& layers() const { return layers_; }
  const std::shared_ptr<Norm>& final_layernorm() const { return final_layernorm_; }
  // The final norm where this chunk holds it; elsewhere what is given.
  at::Tensor normalized(const at::Tensor& hidden_states) const {
    return final_layernorm_ ? final_layernorm_->forward(hidden_states) : hidden_states;
  }

 private:
  // The end of the layers, from local number `first` on, that are recomputed together; `first`
  // where that one is not.
  int64_t recomputed_until(int64_t first) const;

  RecomputeConfig recompute_;
  std::vector<std::shared_ptr<TransformerLayer>> layers_;
  std::shared_ptr<Norm> final_layernorm_;  // null but behind the last layer
};

}  // namespace megatron
