#include "megatron/models/gpt/gpt_model.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/ops/random_weights.h"
#include "megatron/parallel/collectives.h"

namespace megatron {
namespace {

void expect_shape(const at::Tensor& tensor, at::IntArrayRef shape, const char* name) {
  check(!tensor.defined() || tensor.sizes() == shape, "Expected {} of shape {}, but got {}", name,
        shape.vec(), tensor.sizes().vec());
}

// The input with its alias resolved, after its parts were held against each other.
GPTModelInput checked(GPTModelInput input, const GPTModelConfig& config) {
  check(input.inference_context == nullptr || input.inference_params == nullptr ||
            input.inference_context == input.inference_params,
        "Expected inference_context or its old name inference_params, but got both");
  if (input.inference_context == nullptr) input.inference_context = input.inference_params;
  check(input.inference_context == nullptr || !input.packed_seq_params,
        "Expected packed sequences or an inference context, but got both");
  if (!input.input_ids.defined()) return input;
  const at::IntArrayRef shape = input.input_ids.sizes();
  check(shape.size() == 2 && input.input_ids.scalar_type() == at::kLong,
        "Expected input_ids of shape [b, s] and dtype int64, but got {} and {}", shape.vec(),
        c10::toString(input.input_ids.scalar_type()));
  expect_shape(input.labels, shape, "labels");
  expect_shape(input.loss_mask, shape, "loss_mask");
  const bool by_axis = config.position_embedding_type == PositionEmbeddingType::mrope &&
                       input.position_ids.defined() && input.position_ids.dim() == 3;
  if (by_axis) {
    expect_shape(input.position_ids, {3, shape[0], shape[1]}, "position_ids");
  } else {
    expect_shape(input.position_ids, shape, "position_ids");
  }
  check(!input.packed_seq_params || shape[0] == 1,
        "Expected one row (b = 1) of packed sequences, but got {}", shape[0]);
  return input;
}

}  // namespace

GPTModel::GPTModel(const GPTModelConfig& config, const TransformerLayerSubmodules& layer_spec,
                   const PipelineStage& stage, const ProcessGroupCollection& groups,
                   at::TensorOptions tensor_options)
    : LanguageModule(config, stage, groups, tensor_options),
      rotary_embedding_(ModelRotaryEmbedding::make(config)) {
  if (stage.pre_process) {
    embedding_ =
        register_module("embedding", std::make_shared<LanguageModelEmbedding>(config, options_));
  }
  decoder_ = register_module("decoder", std::make_shared<TransformerBlock>(
                                            config.transformer, layer_spec, stage, options_));
  setup_embeddings_and_output_layer();
  assign_names();
}

void GPTModel::set_input_tensor(const std::vector<at::Tensor>& inputs) {
  check(inputs.size() == 1, "Expected exactly one input tensor for a GPT stage, but got {}",
        inputs.size());
  set_input_tensor(inputs[0]);
}

at::Tensor GPTModel::forward(const GPTModelInput& given, const ForwardContext& context) {
  const GPTModelInput input = checked(given, config_);
  const at::Tensor hidden_states =
      decoder_->forward(preprocess(input, context), layer_input(input, context), context);
  if (!stage_.post_process) return hidden_states;
  return postprocess(input, hidden_states);
}

at::Tensor GPTModel::preprocess(const GPTModelInput& input, const ForwardContext& context) {
  if (input.decoder_input.defined()) {
    check(input.decoder_input.dim() == 3 &&
              input.decoder_input.size(2) == config_.transformer.hidden_size,
          "Expected decoder_input of shape [s, b, {}], but got {}", config_.transformer.hidden_size,
          input.decoder_input.sizes().vec());
    return input.decoder_input;
  }
  if (!embedding_) {
    check(input_tensor_.defined(),
          "Expected set_input_tensor before forward on pipeline stage {}, but got no input",
          stage_.rank);
    return std::exchange(input_tensor_, at::Tensor());
  }
  check(input.input_ids.defined(), "Expected input_ids or decoder_input, but got neither");
  const at::Tensor embedded = embedding_->forward(input.input_ids, input.position_ids, context);
  const bool is_whole =
      config_.transformer.sequence_parallel && !config_.scatter_embedding_sequence_parallel;
  return is_whole ? scatter_to_sequence_parallel_region(embedded, *groups_.tp) : embedded;
}

LayerInput GPTModel::layer_input(const GPTModelInput& input, const ForwardContext& context) const {
  LayerInput result{.attention_mask = input.attention_mask,
                    .attention_bias = input.extra_block_arguments.attention_bias,
                    .rotary = {},
                    .packed_seq_params = input.packed_seq_params,
                    .inference = input.inference_context};
  if (input.extra_block_arguments.rotary) {
    result.rotary = *input.extra_block_arguments.rotary;
  } else if (rotary_embedding_) {
    result.rotary = rotary_embedding_->table(
        context.positions, input.position_ids, input.packed_seq_params,
        accumulation_dtype(c10::typeMetaToScalarType(options_.tensor.dtype())),
        options_.tensor.device());
  }
  return result;
}

at::Tensor GPTModel::postprocess(const GPTModelInput& input, at::Tensor hidden_states) const {
  const bool gather = input.runtime_gather_output.value_or(!config_.parallel_output);
  check(input.inference_context == nullptr || gather,
        "Expected runtime_gather_output with an inference context, but got logits that stay split "
        "over the tensor parallel ranks");
  if (input.inference_context != nullptr &&
      input.inference_context->materialize_only_last_token_logits) {
    hidden_states = hidden_states.narrow(0, hidden_states.size(0) - 1, 1);
  }
  const ParameterPtr tied = output_layer_->weight() ? nullptr : shared_embedding_or_output_weight();
  const bool has_labels = input.labels.defined();
  // The loss works on split logits whatever is asked of them otherwise.
  const at::Tensor logits =
      scale_logits(output_layer_->forward(hidden_states, tied, gather && !has_labels));
  return has_labels ? compute_language_model_loss(input.labels, logits)
                    : logits.transpose(0, 1).contiguous();
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
