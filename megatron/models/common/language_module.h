// What language models share: the output layer and its loss over a split vocabulary, embeddings
// tied to it over pipeline stages, the choice of the attention backend, single steps of multi-token
// prediction, sharded state.
#pragma once

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/models/common/language_model_embedding.h"
#include "megatron/models/common/multi_token_prediction_loss.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/multi_token_prediction.h"
#include "megatron/transformer/transformer_block.h"

namespace megatron {

// Where a module lies along an added axis of the whole model's tensors: piece `offset` of `count`.
struct ShardedOffset {
  int64_t axis = 0, offset = 0, count = 1;
};

struct ShardedStateDictMetadata {
  // The ranks that hold the same values; the first of them writes. The model's own where null.
  ProcessGroupPtr dp_cp_group;
};

class LanguageModule : public MegatronModule {
 public:
  // Throws Error where the attention backend cannot do what the configuration asks on this device,
  // or where the environment contradicts it.
  LanguageModule(const GPTModelConfig& config, const PipelineStage& stage,
                 ProcessGroupCollection groups, at::TensorOptions tensor_options);

  // Cross-entropy as the configuration says (label smoothing, half-precision logits, fused): labels
  // [b, s], logits [s, b, v/tp] -> [b, s] in nats, neither masked nor averaged. Fused, it writes
  // the gradient over the logits.
  at::Tensor compute_language_model_loss(const at::Tensor& labels, const at::Tensor& logits) const;

  // Logits times MuP's output multiplier; the same tensor where that is 1 (Megatron's
  // _scale_logits).
  at::Tensor scale_logits(const at::Tensor& logits) const;

  // Last stage: the logits [s, b, v/tp] of hidden states [s, b, h] ([s/tp, b, h] with sequence
  // parallelism), scaled; whole with `gather_output`. `weight` instead of output_weight().
  at::Tensor compute_logits(const at::Tensor& hidden_states, bool gather_output = false,
                            const ParameterPtr& weight = nullptr) const;

  // The same loss straight from the hidden states, without holding the logits where the fusion is
  // linear.
  at::Tensor compute_output_loss(const at::Tensor& labels, const at::Tensor& hidden_states,
                                 const ParameterPtr& weight = nullptr) const;

  // That loss and, where wanted, the likeliest tokens, from one set of logits where they are held.
  HeadOutput compute_head(const at::Tensor& hidden_states, const at::Tensor& labels,
                          const ParameterPtr& weight, bool wants_likeliest) const;

  // Adds the output layer's weight gradients that defer_embedding_wgrad_compute kept back to its
  // main gradient; nothing elsewhere. Call after the last backward of a step, before gradients are
  // reduced. Collective over the tensor-parallel group with sequence parallelism.
  void compute_deferred_weight_gradients() const;

  // The weight of the output layer: its own, or the tied embedding's.
  ParameterPtr output_weight() const;

  // The embedding where this stage holds it, else the output weight, else null.
  ParameterPtr shared_embedding_or_output_weight() const;

  // Whether this chunk takes part in what the copies of the embedding exchange (Megatron's
  // _is_in_embd_group): the first and the last, and whoever else its embedding group names.
  bool is_in_embd_group() const;

  // Makes the copies of a shared embedding equal: later ones are zeroed, and all become the sum.
  // Collective over the embedding group; call after weights were loaded by other means than
  // initialize_weights or sharded_state_dict. Throws Error on a stage with a copy but no group.
  void synchronize_shared_embedding() const;

  // One further token of N sequences, each by itself and without its history, when its next token
  // is known (speculative decoding): hidden_states [N, 1, h] of the depth before, next_token_ids
  // and their position_ids [1, N] -> hidden states [N, 1, h] and logits [N, 1, v] (padded
  // vocabulary). `depth` counts from 0 and is left out where the layer is repeated. Collective over
  // the tensor parallel group. Throws Error where this stage holds no such layer, and with sequence
  // parallelism.
  std::pair<at::Tensor, at::Tensor> compute_mtp_single_step(
      const at::Tensor& hidden_states, const at::Tensor& next_token_ids,
      const at::Tensor& position_ids, std::optional<int64_t> depth = {}) const;

  // This rank's parameters as pieces of the whole model, by their marks: views of the live tensors
  // under `prefix` and the parameters' names, but for `transformer_layer` inside a prediction layer
  // (Megatron's older name). The copy of a tied embedding goes by the name of the first stage's.
  // There is no other state. Throws Error unless `sharded_offsets` is empty: a
  // language model is not a piece of a longer tensor.
  virtual ShardedStateDict sharded_state_dict(
      const std::string& prefix = "", const std::vector<ShardedOffset>& sharded_offsets = {},
      const ShardedStateDictMetadata& metadata = {}) const;

  // In `state`, replaces the output weight of a last stage by a piece of the first stage's
  // embedding. Nothing to do where the output layer uses the embedding itself. Throws Error where
  // the weight is missing there, or is present on a stage that holds none of its own.
  void tie_embeddings_and_output_weights_state_dict(
      ShardedStateDict& state, const std::string& output_layer_weight_key,
      const std::string& first_stage_word_emb_key,
      const ShardedStateDictMetadata& metadata = {}) const;

  const GPTModelConfig& config() const { return config_; }
  const PipelineStage& stage() const { return stage_; }
  const ProcessGroupCollection& groups() const { return groups_; }
  at::TensorOptions tensor_options() const { return options_.tensor; }
  // Of the hidden states that pass between stages.
  at::TensorOptions activation_options() const;
  // What attention without a mask runs on; never automatic.
  AttentionBackend attention_backend() const { return attention_backend_; }

 protected:
  // The output layer of a last stage, without a weight of its own where it is tied to an embedding
  // on the same stage.
  std::shared_ptr<ColumnParallelLinear> make_output_layer() const;

  // Marks embedding and output weights, the copies of a shared embedding among them. Call after all
  // modules were registered.
  void setup_embeddings_and_output_layer();

  // Where single steps of multi-token prediction would be captured as CUDA graphs; nothing unless
  // cuda_graph_impl is local. Throws Error then: graphs are not in this version. Call after the
  // prediction layers were registered.
  void setup_mtp_cuda_graphs() const;

  // ids and positions [b, s] -> what the first layer takes: [s, b, h], or [s/tp, b, h] with
  // sequence parallelism.
  at::Tensor embed(const at::Tensor& input_ids, const at::Tensor& position_ids,
                   const ForwardContext& context) const;

  GPTModelConfig config_;
  PipelineStage stage_;
  ProcessGroupCollection groups_;
  LayerOptions options_;
  std::shared_ptr<LanguageModelEmbedding> embedding_;   // null but where this stage embeds tokens
  std::shared_ptr<MultiTokenPredictionBlock> mtp_;      // null but where the layout says
  std::shared_ptr<ColumnParallelLinear> output_layer_;  // null but on the last stage

 private:
  void set_attention_backend();
  // Whether the loss comes straight from the hidden states.
  bool fuses_linear_cross_entropy() const;
  // [b, s], without holding all logits at once.
  at::Tensor likeliest_in_parts(const at::Tensor& hidden_states, const ParameterPtr& weight) const;
  // Whether prediction layers on this stage embed tokens too.
  bool mtp_process() const;
  int64_t replica_id(const Parameter& parameter, const ShardedStateDictMetadata& metadata) const;

  AttentionBackend attention_backend_ = AttentionBackend::automatic;
};

}  // namespace megatron
