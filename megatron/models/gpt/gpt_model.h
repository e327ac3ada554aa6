// GPTModel: embedding, transformer block, MTP layers and output layer, as far as one chunk of a
// pipeline stage holds them.
#pragma once

#include "megatron/data_parallel/module_group.h"
#include "megatron/models/common/initialize_weights.h"
#include "megatron/models/common/model_chunk_schedule_plan.h"
#include "megatron/models/common/model_rotary_embedding.h"
#include "megatron/models/gpt/gpt_model_input.h"

namespace megatron {

class GPTModel : public LanguageModule, public GroupedModule {
 public:
  // `layer_spec` is the spec of every layer or a block spec (see block_submodules()).
  // `mtp_block_spec` is required on a chunk with MTP layers, and only there.
  GPTModel(const GPTModelConfig& config, const LayerSpec& layer_spec, const PipelineStage& stage,
           const ProcessGroupCollection& groups, at::TensorOptions tensor_options,
           const std::optional<ModuleSpec>& mtp_block_spec = {});

  // The previous stage's output: [s, b, h] ([s/tp, b, h] with sequence parallelism), or a list of
  // one such tensor. Not used on the first stage.
  void set_input_tensor(const at::Tensor& input) { input_tensor_ = input; }
  void set_input_tensor(const std::vector<at::Tensor>& inputs);

  // Module groups in forward order: the embedding, each layer, everything after the layers. With a
  // tied embedding or MTP layers the last group uses parameters of the first, too.
  std::vector<ModuleGroup> module_groups() const override;
  // Shape of the input tensor for s positions and b rows. With `runs_mtp`, and MTP layers on an
  // earlier virtual stage, it includes their hidden states.
  std::vector<int64_t> input_shape(int64_t s, int64_t b, bool runs_mtp) const;

  // Whether this chunk reads token ids, positions, labels or masks; otherwise they may be
  // undefined.
  bool reads_tokens() const;

  // The rotary embedding shared by all layers; null if positions are not rotary.
  const ModelRotaryEmbedding* rotary_embedding() const { return rotary_embedding_.get(); }

  // Before the last stage: returns hidden states for the next stage, in the layout of
  // set_input_tensor, followed by those of the MTP layers if these are not on the last stage. On
  // the last stage: with labels, the loss per token [b, s] in nats, neither masked nor averaged;
  // without, the logits [b, s, v/tp] (padded vocabulary), or [b, s, v] if gathered.
  // Backward from either trains MTP, too. MTP is skipped without grad mode unless mtp_record is
  // set, and always in decoding.
  // Throws Error for mismatching shapes, and for decoding without gathered logits.
  at::Tensor forward(const GPTModelInput& input, const ForwardContext& context);

  // The same pass as a schedule plan. Output and gradients are bit-identical to forward and
  // backward. The input tensor is consumed when the plan runs. The model must outlive the plan.
  // Throws Error for decoding and for full recomputation.
  std::unique_ptr<TransformerModelChunkSchedulePlan> build_schedule_plan(
      const GPTModelInput& input, const ForwardContext& context);

 private:
  // checked_input() of this chunk.
  GPTModelInput checked(const GPTModelInput& input, const ForwardContext& context) const;
  at::Tensor preprocess(const GPTModelInput& input, const ForwardContext& context);
  LayerInput layer_input(const GPTModelInput& input, const ForwardContext& context) const;
  at::Tensor postprocess(const GPTModelInput& input, const LayerInput& layer_input,
                         at::Tensor hidden_states, const ForwardContext& context) const;
  // The context with what experts know of the tokens: padding and packed sequences.
  ForwardContext context_of(const GPTModelInput& input, ForwardContext context) const;
  // Whether this pass runs MTP.
  bool runs_mtp(const GPTModelInput& input) const;
  // Hidden states of the MTP layers, by depth.
  std::vector<at::Tensor> mtp_hidden_states(const GPTModelInput& input,
                                            const LayerInput& layer_input,
                                            const at::Tensor& hidden_states,
                                            const ForwardContext& context) const;
  // The decoder's hidden states, by_depth[0], with the MTP losses of the others attached.
  at::Tensor attach_mtp_losses(const GPTModelInput& input,
                               const std::vector<at::Tensor>& by_depth) const;

  std::shared_ptr<TransformerBlock> decoder_;
  std::unique_ptr<ModelRotaryEmbedding> rotary_embedding_;
  at::Tensor input_tensor_;
};

}  // namespace megatron
