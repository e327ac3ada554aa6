// What language models share: the loss over a split vocabulary and tied embeddings across stages.
#pragma once

#include "megatron/config/gpt_model_config.h"
#include "megatron/models/common/language_model_embedding.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/transformer_block.h"

namespace megatron {

class LanguageModule : public MegatronModule {
 public:
  LanguageModule(const GPTModelConfig& config, const PipelineStage& stage,
                 ProcessGroupCollection groups, at::TensorOptions tensor_options);

  // Cross-entropy: labels [b, s], logits [s, b, v/tp] -> [b, s] in nats, neither masked nor
  // averaged.
  at::Tensor compute_language_model_loss(const at::Tensor& labels, const at::Tensor& logits) const;

  // Logits times MuP's output multiplier; the same tensor where that is 1 (Megatron's
  // _scale_logits).
  at::Tensor scale_logits(const at::Tensor& logits) const;

  // The embedding where this stage holds it, else the output weight, else null.
  ParameterPtr shared_embedding_or_output_weight() const;

  // Makes the copies of a tied embedding equal: the last stage takes the values of the first.
  // Collective over the embedding group; call after weights were initialised or loaded.
  void synchronize_shared_embedding() const;

  const GPTModelConfig& config() const { return config_; }
  const PipelineStage& stage() const { return stage_; }
  const ProcessGroupCollection& groups() const { return groups_; }
  at::TensorOptions tensor_options() const { return options_.tensor; }
  // Of the hidden states that pass between stages.
  at::TensorOptions activation_options() const;

 protected:
  // Builds the output layer and marks embedding and output weights, the last stage's copy of a tied
  // embedding among them. Call after the embedding and the decoder were registered.
  void setup_embeddings_and_output_layer();

  GPTModelConfig config_;
  PipelineStage stage_;
  ProcessGroupCollection groups_;
  LayerOptions options_;
  std::shared_ptr<LanguageModelEmbedding> embedding_;   // null but on the first stage
  std::shared_ptr<ColumnParallelLinear> output_layer_;  // null but on the last stage
};

}  // namespace megatron
