#include "megatron/models/gpt/gpt_model.h"

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/ops/random_weights.h"

namespace megatron {

GPTModel::GPTModel(const GPTModelConfig& config, const TransformerLayerSubmodules& layer_spec,
                   const PipelineStage& stage, const ProcessGroupCollection& groups,
                   at::TensorOptions tensor_options)
    : LanguageModule(config, stage, groups, tensor_options) {
  if (stage.pre_process) {
    embedding_ =
        register_module("embedding", std::make_shared<LanguageModelEmbedding>(config, options_));
    if (const auto weight = embedding_->word_embeddings_weight();
        config.share_embeddings_and_output_weights) {
      weight->shared_embedding = true;
    }
  }
  if (config.position_embedding_type == PositionEmbeddingType::rope)
    rotary_embedding_.emplace(config);
  decoder_ = register_module("decoder", std::make_shared<TransformerBlock>(
                                            config.transformer, layer_spec, stage, options_));
  setup_embeddings_and_output_layer();
  assign_names();
}

at::Tensor GPTModel::forward(const GPTModelInput& input, const ForwardContext& context) {
  const at::Tensor hidden_states =
      decoder_->forward(preprocess(input, context), input.attention_mask,
                        rotary_table(input, context), context, input.inference);
  if (!stage_.post_process) return hidden_states;
  return postprocess(input, hidden_states);
}

at::Tensor GPTModel::preprocess(const GPTModelInput& input, const ForwardContext& context) {
  if (embedding_) return embedding_->forward(input.input_ids, input.position_ids, context);
  check(input_tensor_.defined(),
        "Expected set_input_tensor before forward on pipeline stage {}, but got no input",
        stage_.rank);
  return std::exchange(input_tensor_, at::Tensor());
}

RotaryTable GPTModel::rotary_table(const GPTModelInput& input,
                                   const ForwardContext& context) const {
  if (!rotary_embedding_) return {};
  const int64_t first = input.inference ? input.inference->sequence_length_offset() : 0;
  return rotary_embedding_->table(
      first, context.positions.size(0),
      accumulation_dtype(c10::typeMetaToScalarType(options_.tensor.dtype())),
      options_.tensor.device());
}

at::Tensor GPTModel::postprocess(const GPTModelInput& input,
                                 const at::Tensor& hidden_states) const {
  const ParameterPtr tied = output_layer_->weight() ? nullptr : shared_embedding_or_output_weight();
  const at::Tensor logits = output_layer_->forward(hidden_states, tied, input.gather_output);
  if (!input.labels.defined()) return logits.transpose(0, 1).contiguous();
  check(!input.gather_output,
        "Expected logits that stay split where labels are given, but got gather_output");
  return compute_language_model_loss(input.labels, logits);
}

void initialize_weights(const MegatronModule& model, uint64_t seed) {
  at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : model.parameters()) {
    if (parameter->initialization.kind == Initialization::Kind::constant) {
      parameter->data.fill_(parameter->initialization.value);
      continue;
    }
    for (const ShardFragment& fragment : parameter->fragments()) {
      at::Tensor view = parameter->fragment_view(parameter->data, fragment);
      fill_normal(view, parameter->initialization.value, seed, parameter->name,
                  parameter->global_shape(), parameter->fragment_offset(fragment));
    }
  }
}

}  // namespace megatron
