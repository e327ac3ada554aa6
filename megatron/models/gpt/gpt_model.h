// GPTModel: embedding, transformer block, output layer; one chunk of a pipeline stage of it.
#pragma once

#include "megatron/data_parallel/module_group.h"
#include "megatron/models/common/initialize_weights.h"
#include "megatron/models/common/model_chunk_schedule_plan.h"
#include "megatron/models/common/model_rotary_embedding.h"
#include "megatron/models/gpt/gpt_model_input.h"

namespace megatron {

class GPTModel : public LanguageModule {
 public:
  // `mtp_block_spec` goes with mtp_num_layers; the stage that predicts builds it.
  GPTModel(const GPTModelConfig& config, const TransformerLayerSubmodules& layer_spec,
           const PipelineStage& stage, const ProcessGroupCollection& groups,
           at::TensorOptions tensor_options,
           const std::optional<MultiTokenPredictionBlockSubmodules>& mtp_block_spec = {});

  // What the stage before sent: [s, b, h] ([s/tp, b, h] with sequence parallelism), or a list of
  // exactly that. Not used on the first stage.
  void set_input_tensor(const at::Tensor& input) { input_tensor_ = input; }
  void set_input_tensor(const std::vector<at::Tensor>& inputs);

  // What this chunk reads one after another: the embedding, each layer, all behind the layers. With
  // a tied embedding or prediction layers the last reads parameters of the first too.
  std::vector<ModuleGroup> module_groups() const;
  // The shape of what set_input_tensor takes for s positions and b rows. With prediction layers in
  // an earlier chunk, their hidden states come along where predictions are trained.
  std::vector<int64_t> input_shape(int64_t s, int64_t b, bool predicts_further) const;

  // Whether this chunk reads tokens, positions, labels or masks; elsewhere they may be undefined.
  bool reads_tokens() const;

  // The rotary tables that the layers share, or null where there are none.
  const ModelRotaryEmbedding* rotary_embedding() const { return rotary_embedding_.get(); }

  // On a stage that is not the last: hidden states for the next one, as in set_input_tensor (behind
  // them those of the prediction layers, where these are in another chunk than the loss). On the
  // last: with labels the loss per token [b, s] in nats, neither masked nor averaged, without them
  // the logits [b, s, v/tp] (padded vocabulary), the whole of it where the output is gathered.
  // Backward from either trains multi-token prediction too; without gradients and without
  // mtp_record it is left out, and so it is in decoding.
  // Throws Error for shapes that do not fit, and for decoding without gathered output.
  at::Tensor forward(const GPTModelInput& input, const ForwardContext& context);

  // The same pass as a plan that has run nothing yet; its output, and the gradients that it leaves
  // behind, equal those of forward and backward bit for bit. It takes the input tensor when it
  // runs. The model must outlive it. Throws Error for decoding, and for full recomputation.
  std::unique_ptr<TransformerModelChunkSchedulePlan> build_schedule_plan(
      const GPTModelInput& input, const ForwardContext& context);

 private:
  at::Tensor preprocess(const GPTModelInput& input, const ForwardContext& context);
  LayerInput layer_input(const GPTModelInput& input, const ForwardContext& context) const;
  at::Tensor postprocess(const GPTModelInput& input, const LayerInput& layer_input,
                         at::Tensor hidden_states, const ForwardContext& context) const;
  // Whether this pass trains multi-token prediction.
  bool predicts_further(const GPTModelInput& input) const;
  // The hidden states of the prediction layers, by depth.
  std::vector<at::Tensor> predictions(const GPTModelInput& input, const LayerInput& layer_input,
                                      const at::Tensor& hidden_states,
                                      const ForwardContext& context) const;
  // The first of the hidden states as they are, with the losses of the others attached.
  at::Tensor with_prediction_losses(const GPTModelInput& input,
                                    const std::vector<at::Tensor>& by_depth) const;

  std::shared_ptr<TransformerBlock> decoder_;
  std::unique_ptr<ModelRotaryEmbedding> rotary_embedding_;
  at::Tensor input_tensor_;
};

}  // namespace megatron
