// Base of language models: output layer and loss over a sharded vocabulary, embeddings tied across
// pipeline stages, attention backend selection, MTP single steps, sharded state.
#pragma once

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/models/common/language_model_embedding.h"
#include "megatron/models/common/multi_token_prediction_loss.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/transformer/multi_token_prediction.h"
#include "megatron/transformer/transformer_block.h"

namespace megatron {

// Position of a module along a prepended axis of the model's tensors: piece `offset` of `count`.
struct ShardedOffset {
  int64_t axis = 0, offset = 0, count = 1;
};

struct ShardedStateDictMetadata {
  // Ranks that hold the same values; the first one writes. Null: the model's own group.
  ProcessGroupPtr dp_cp_group;
};

class LanguageModule : public MegatronModule {
 public:
  // Throws Error if the attention backend does not support the configuration on this device, or if
  // the environment variables contradict it.
  LanguageModule(const GPTModelConfig& config, const PipelineStage& stage,
                 ProcessGroupCollection groups, at::TensorOptions tensor_options);

  // Cross-entropy of labels [b, s] and logits [s, b, v/tp] -> [b, s] in nats, neither masked nor
  // averaged. Label smoothing, fp16 logits and fusion follow the configuration. The fused version
  // overwrites the logits with their gradient.
  at::Tensor compute_language_model_loss(const at::Tensor& labels, const at::Tensor& logits) const;

  // Logits times logit_multiplier and MuP's output multiplier, then capped as
  // final_logit_softcapping says; returns the same tensor if that changes nothing (Megatron's
  // _scale_logits).
  at::Tensor scale_logits(const at::Tensor& logits) const;

  // Last stage: scaled logits [s, b, v/tp] of hidden states [s, b, h] ([s/tp, b, h] with sequence
  // parallelism), or [s, b, v] with `gather_output`. `weight` replaces output_weight().
  at::Tensor compute_logits(const at::Tensor& hidden_states, bool gather_output = false,
                            const ParameterPtr& weight = nullptr) const;

  // Logits of lower precision are returned in fp32 from now on (Megatron's Float16Module, fp32_output).
  // Losses are always computed in fp32.
  void return_fp32_logits() { returns_fp32_logits_ = true; }
  bool returns_fp32_logits() const { return returns_fp32_logits_; }

  // Loss [b, s] of hidden states [s, b, h]. With linear cross-entropy fusion the logits are never
  // materialized.
  at::Tensor compute_output_loss(const at::Tensor& labels, const at::Tensor& hidden_states,
                                 const ParameterPtr& weight = nullptr) const;

  // compute_output_loss and, if wanted, the ids of the largest logits. Computes the logits once
  // unless linear cross-entropy is fused.
  HeadOutput compute_head(const at::Tensor& hidden_states, const at::Tensor& labels,
                          const ParameterPtr& weight, bool wants_argmax) const;

  // Adds the output layer's weight gradients that defer_embedding_wgrad_compute postponed to its
  // main gradient. Call after the last backward of a step, before gradients are reduced. Collective
  // over the tensor-parallel group with sequence parallelism.
  void compute_deferred_weight_gradients() const;

  // The output layer's own weight, or that of the tied embedding.
  ParameterPtr output_weight() const;

  // The word embedding if this stage holds it, else the output weight, else null.
  ParameterPtr shared_embedding_or_output_weight() const;

  // Whether this chunk takes part in collectives of the embedding group (Megatron's
  // _is_in_embd_group): the first and the last chunk, and stages with MTP layers.
  bool is_in_embd_group() const;

  // Copies a shared embedding from the first stage to the others. Collective over the embedding
  // group. Call after loading weights by other means than initialize_weights or sharded_state_dict.
  // Throws Error on a stage that holds a copy but has no embedding group.
  void synchronize_shared_embedding() const;

  // MTP for N independent tokens without history, given their next tokens (speculative decoding):
  // hidden_states [N, 1, h] of the previous depth, next_token_ids and their position_ids [1, N] ->
  // hidden states [N, 1, h] and logits [N, 1, v] (padded vocabulary). `depth` counts from 0; leave
  // it unset for a repeated layer. Collective over the tensor-parallel group. Throws Error on a
  // stage without MTP layers, and with sequence or context parallelism.
  std::pair<at::Tensor, at::Tensor> compute_mtp_single_step(
      const at::Tensor& hidden_states, const at::Tensor& next_token_ids,
      const at::Tensor& position_ids, std::optional<int64_t> depth = {}) const;

  // This rank's parameters as shards of the global tensors: views of the live tensors. Keys are
  // `prefix` and the parameter name, except that the layer within an MTP layer keeps Megatron's
  // older name `transformer_layer`. The copy of a tied embedding uses the first stage's key. There
  // is no other state. Throws Error unless `sharded_offsets` is empty: a language model is not a
  // piece of a larger tensor.
  virtual ShardedStateDict sharded_state_dict(
      const std::string& prefix = "", const std::vector<ShardedOffset>& sharded_offsets = {},
      const ShardedStateDictMetadata& metadata = {}) const;

  // Replaces the last stage's output weight in `state` by a shard of the first stage's embedding.
  // Does nothing if the output layer uses the embedding directly. Throws Error if the last stage
  // lacks the weight, or if another stage has it.
  void tie_embeddings_and_output_weights_state_dict(
      ShardedStateDict& state, const std::string& output_layer_weight_key,
      const std::string& first_stage_word_emb_key,
      const ShardedStateDictMetadata& metadata = {}) const;

  const GPTModelConfig& config() const { return config_; }
  const PipelineStage& stage() const { return stage_; }
  const ProcessGroupCollection& groups() const { return groups_; }
  at::TensorOptions tensor_options() const { return options_.tensor; }
  // Of the hidden states that pipeline stages exchange.
  at::TensorOptions activation_options() const;
  // The backend of attention without a mask; never automatic.
  AttentionBackend attention_backend() const { return attention_backend_; }

 protected:
  void on_conversion(at::ScalarType dtype) override {
    options_.tensor = options_.tensor.dtype(dtype);
  }

  // The last stage's output layer. It allocates no weight if tied to an embedding on the same
  // stage.
  std::shared_ptr<ColumnParallelLinear> make_output_layer() const;

  // Sets the embedding attributes of parameters, including copies of a shared embedding. Call after
  // all modules are registered.
  void setup_embeddings_and_output_layer();

  // Throws Error if cuda_graph_impl is local and this stage has MTP layers, whose single steps
  // would be captured: CUDA graphs are not supported yet. Call after the MTP layers are registered.
  void setup_mtp_cuda_graphs() const;

  // ids and positions [b, s] -> input of the first layer: [s, b, h], or [s/tp, b, h] with sequence
  // parallelism.
  at::Tensor embed(const at::Tensor& input_ids, const at::Tensor& position_ids,
                   const ForwardContext& context) const;

  GPTModelConfig config_;
  PipelineStage stage_;
  ProcessGroupCollection groups_;
  LayerOptions options_;
  std::shared_ptr<LanguageModelEmbedding> embedding_;   // first stage, and stages with MTP layers
  std::shared_ptr<MultiTokenPredictionBlock> mtp_;      // null unless this stage has MTP layers
  std::shared_ptr<ColumnParallelLinear> output_layer_;  // null except on the last stage

 private:
  void set_attention_backend();
  bool fuses_linear_cross_entropy() const;
  // [b, s] ids of the largest logits, computed in chunks of positions to bound memory.
  at::Tensor argmax_in_chunks(const at::Tensor& hidden_states, const ParameterPtr& weight) const;
  int64_t replica_id(const Parameter& parameter, const ShardedStateDictMetadata& metadata) const;

  AttentionBackend attention_backend_ = AttentionBackend::automatic;
  bool returns_fp32_logits_ = false;
};

}  // namespace megatron
