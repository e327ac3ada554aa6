// GPTModel: embedding, transformer block, output layer; one pipeline stage of it.
#pragma once

#include "megatron/models/common/language_module.h"
#include "megatron/models/common/rotary_embedding.h"

namespace megatron {

// What a forward pass is given. ids, positions and labels are int64 [b, s]; the mask is bool
// [1 or b, 1, s, s] with true = masked out, undefined for a causal mask.
struct GPTModelInput {
  at::Tensor input_ids;
  at::Tensor position_ids;
  at::Tensor attention_mask;
  at::Tensor labels;                      // undefined: logits are returned
  InferenceContext* inference = nullptr;  // undefined outside of decoding
  bool gather_output = false;             // logits over the whole vocabulary on every rank
};

class GPTModel : public LanguageModule {
 public:
  GPTModel(const GPTModelConfig& config, const TransformerLayerSubmodules& layer_spec,
           const PipelineStage& stage, const ProcessGroupCollection& groups,
           at::TensorOptions tensor_options);

  // What the stage before sent: [s, b, h] ([s/tp, b, h] with sequence parallelism). Not on the
  // first stage.
  void set_input_tensor(const at::Tensor& input) { input_tensor_ = input; }

  // On a stage that is not the last: hidden states for the next one, as in set_input_tensor. On the
  // last: with labels the loss per token [b, s], without them the logits [b, s, v/tp] (padded
  // vocabulary; the whole of it with gather_output).
  at::Tensor forward(const GPTModelInput& input, const ForwardContext& context);

 private:
  at::Tensor preprocess(const GPTModelInput& input, const ForwardContext& context);
  RotaryTable rotary_table(const GPTModelInput& input, const ForwardContext& context) const;
  at::Tensor postprocess(const GPTModelInput& input, const at::Tensor& hidden_states) const;

  std::shared_ptr<TransformerBlock> decoder_;
  std::optional<RotaryEmbedding> rotary_embedding_;
  at::Tensor input_tensor_;
};

// Fills every parameter of a model as its marks say: a function of the seed, the parameter's name
// and the global element, the same in every layout.
void initialize_weights(const MegatronModule& model, uint64_t seed);

}  // namespace megatron
