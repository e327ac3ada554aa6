// GPTModel: embedding, transformer block, output layer; one pipeline stage of it.
#pragma once

#include "megatron/models/common/language_module.h"
#include "megatron/models/common/model_rotary_embedding.h"

namespace megatron {

// What a forward pass may hand straight to the decoder.
struct ExtraBlockArguments {
  at::Tensor attention_bias;          // [1 or b, 1 or n_p, s, s], added to the attention scores
  std::optional<RotaryTable> rotary;  // instead of the model's own tables
};

// What a forward pass is given. ids, positions, labels and loss mask are [b, s]; positions [3, b,
// s] with mrope. The mask is bool [1 or b, 1, s, s] with true = masked out; undefined: causal.
struct GPTModelInput {
  at::Tensor input_ids;
  at::Tensor position_ids;
  at::Tensor attention_mask;
  at::Tensor decoder_input;  // [s, b, h], instead of the embedding's output
  at::Tensor labels;         // undefined: logits are returned
  InferenceContext* inference_context = nullptr;
  std::optional<PackedSeqParams> packed_seq_params;  // b is 1 then
  ExtraBlockArguments extra_block_arguments;
  std::optional<bool> runtime_gather_output;     // else as config's parallel_output says
  InferenceContext* inference_params = nullptr;  // the old name of inference_context
  at::Tensor loss_mask;                          // of multi-token prediction's own losses
};

class GPTModel : public LanguageModule {
 public:
  GPTModel(const GPTModelConfig& config, const TransformerLayerSubmodules& layer_spec,
           const PipelineStage& stage, const ProcessGroupCollection& groups,
           at::TensorOptions tensor_options);

  // What the stage before sent: [s, b, h] ([s/tp, b, h] with sequence parallelism), or a list of
  // exactly that. Not used on the first stage.
  void set_input_tensor(const at::Tensor& input) { input_tensor_ = input; }
  void set_input_tensor(const std::vector<at::Tensor>& inputs);

  // The rotary tables that the layers share, or null where there are none.
  const ModelRotaryEmbedding* rotary_embedding() const { return rotary_embedding_.get(); }

  // On a stage that is not the last: hidden states for the next one, as in set_input_tensor. On the
  // last: with labels the loss per token [b, s] in nats, neither masked nor averaged, without them
  // the logits [b, s, v/tp] (padded vocabulary), the whole of it where the output is gathered.
  // Throws Error for shapes that do not fit, and for decoding without gathered output.
  at::Tensor forward(const GPTModelInput& input, const ForwardContext& context);

 private:
  at::Tensor preprocess(const GPTModelInput& input, const ForwardContext& context);
  LayerInput layer_input(const GPTModelInput& input, const ForwardContext& context) const;
  at::Tensor postprocess(const GPTModelInput& input, at::Tensor hidden_states) const;

  std::shared_ptr<TransformerBlock> decoder_;
  std::unique_ptr<ModelRotaryEmbedding> rotary_embedding_;
  at::Tensor input_tensor_;
};

// Fills every parameter of a model as its marks say: a function of the seed, the parameter's name
// and the global element, the same in every layout.
void initialize_weights(const MegatronModule& model, uint64_t seed);

}  // namespace megatron
