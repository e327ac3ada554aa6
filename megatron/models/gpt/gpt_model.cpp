#include "megatron/models/gpt/gpt_model.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

// Runs before the base class and the members use the configuration.
const GPTModelConfig& checked_config(const GPTModelConfig& config) {
  check_model(config);
  return config;
}

// A copy that shares the values but receives no gradient.
ParameterPtr detached(const Parameter& parameter) {
  auto copy = std::make_shared<Parameter>(parameter);
  copy->data = parameter.data.detach();
  copy->main_grad.reset();
  return copy;
}

}  // namespace

GPTModel::GPTModel(const GPTModelConfig& config, const LayerSpec& layer_spec,
                   const PipelineStage& stage, const ProcessGroupCollection& groups,
                   at::TensorOptions tensor_options,
                   const std::optional<ModuleSpec>& mtp_block_spec)
    : LanguageModule(checked_config(config), stage, groups, tensor_options),
      rotary_embedding_(ModelRotaryEmbedding::make(config)) {
  const bool has_mtp_layers = stage.has_mtp_layers(config.transformer);
  check(mtp_block_spec.has_value() == has_mtp_layers,
        "Expected mtp_block_spec on a chunk with MTP layers only, but got {} on one {} them; "
        "mtp_block_spec() returns what a chunk needs",
        mtp_block_spec ? "a spec" : "none", has_mtp_layers ? "with" : "without");
  if (stage.pre_process || has_mtp_layers) {
    embedding_ =
        register_module("embedding", std::make_shared<LanguageModelEmbedding>(config, options_));
  }
  decoder_ = register_module("decoder", std::make_shared<TransformerBlock>(
                                            config.transformer, layer_spec, stage, options_));
  if (has_mtp_layers) {
    mtp_ = register_module("mtp", std::make_shared<MultiTokenPredictionBlock>(
                                      config.transformer, *mtp_block_spec, options_));
  }
  if (stage.post_process) output_layer_ = register_module("output_layer", make_output_layer());
  setup_embeddings_and_output_layer();
  setup_mtp_cuda_graphs();
  assign_names();
}

void GPTModel::set_input_tensor(const std::vector<at::Tensor>& inputs) {
  check(inputs.size() == 1, "Expected exactly one input tensor for a GPT stage, but got {}",
        inputs.size());
  set_input_tensor(inputs[0]);
}

std::vector<ModuleGroup> GPTModel::module_groups() const {
  std::vector<ModuleGroup> groups;
  std::vector<ParameterPtr> others = trainable(parameters());
  if (stage_.pre_process) groups.push_back({embedding_, trainable(embedding_->parameters())});
  for (const auto& layer : decoder_->layers()) {
    groups.push_back({layer, trainable(layer->parameters()), /*is_layer=*/true});
    std::erase_if(others, [&](const ParameterPtr& parameter) {
      return std::ranges::find(groups.back().parameters, parameter) !=
             groups.back().parameters.end();
    });
  }
  // An output layer without MTP layers on the same stage has no final norm before it.
  const bool uses_others = stage_.post_process || stage_.has_mtp_layers(config_.transformer);
  if (uses_others) groups.push_back({decoder_->final_layernorm(), std::move(others)});
  return groups;
}

GPTModelInput GPTModel::checked(const GPTModelInput& input, const ForwardContext& context) const {
  const auto takes_arbitrary_masks = [](const auto& layer) {
    return layer->takes_arbitrary_masks();
  };
  return checked_input(input, config_, stage_, context,
                       std::ranges::all_of(decoder_->layers(), takes_arbitrary_masks));
}

ForwardContext GPTModel::context_of(const GPTModelInput& input, ForwardContext context) const {
  if (input.padding_mask.defined()) context.padding_mask = input.padding_mask;
  if (config_.transformer.moe.has_experts() && input.packed_seq_params)
    context.sequence_numbers = input.packed_seq_params->sequence_numbers(context.positions);
  return context;
}

at::Tensor GPTModel::forward(const GPTModelInput& arguments, const ForwardContext& given) {
  const GPTModelInput input = checked(arguments, given);
  const ForwardContext context = context_of(input, given);
  const at::Tensor decoder_input = preprocess(input, context);
  const LayerInput for_layers = layer_input(input, context);
  const at::Tensor hidden_states = decoder_->forward(decoder_input, for_layers, context);
  return postprocess(input, for_layers, hidden_states, context);
}

std::vector<int64_t> GPTModel::input_shape(int64_t s, int64_t b, bool runs_mtp) const {
  const TransformerConfig& config = config_.transformer;
  const int64_t depths =
      runs_mtp && stage_.receives_mtp_hidden_states ? 1 + config.mtp.mtp_num_layers : 1;
  return {depths * (config.sequence_parallel ? s / groups_.tp->size() : s), b, config.hidden_size};
}

bool GPTModel::reads_tokens() const {
  return stage_.pre_process || stage_.post_process || stage_.has_mtp_layers(config_.transformer) ||
         config_.position_embedding_type == PositionEmbeddingType::mrope;
}

bool GPTModel::runs_mtp(const GPTModelInput& input) const {
  const bool is_wanted = at::GradMode::is_enabled() || input.mtp_record != nullptr;
  return config_.transformer.mtp.mtp_num_layers > 0 && is_wanted &&
         input.inference_context == nullptr;
}

at::Tensor GPTModel::preprocess(const GPTModelInput& input, const ForwardContext& context) {
  if (!stage_.pre_process) {
    check(input_tensor_.defined(),
          "Expected set_input_tensor before forward on pipeline stage {}, but got no input",
          stage_.rank);
    std::vector<int64_t> shape = {context.residual_positions.size(0),
                                  context.sample_ordinals.size(0), config_.transformer.hidden_size};
    if (stage_.receives_mtp_hidden_states && runs_mtp(input))
      shape[0] *= 1 + config_.transformer.mtp.mtp_num_layers;
    check(input_tensor_.sizes() == shape, "Expected an input tensor of shape {}, but got {}", shape,
          input_tensor_.sizes().vec());
    return std::exchange(input_tensor_, at::Tensor());
  }
  if (input.decoder_input.defined()) return input.decoder_input;
  check(input.input_ids.defined(), "Expected input_ids or decoder_input, but got neither");
  return embed(input.input_ids, input.position_ids, context);
}

LayerInput GPTModel::layer_input(const GPTModelInput& input, const ForwardContext& context) const {
  LayerInput result{.attention_mask = input.attention_mask,
                    .attention_bias = input.extra_block_arguments.attention_bias,
                    .rotary = {},
                    .rotary_local = {},
                    .packed_seq_params = input.packed_seq_params,
                    .inference = input.inference_context};
  if (input.extra_block_arguments.rotary) {
    result.rotary = *input.extra_block_arguments.rotary;
  } else if (rotary_embedding_) {
    const int64_t s = context.positions.size(0) * groups_.cp->size();
    const int64_t length =
        input.inference_context ? input.inference_context->rotary_sequence_length(s) : s;
    const ModelRotaryEmbedding::Tokens tokens{.positions = context.positions,
                                              .position_ids = input.position_ids,
                                              .row_length = length,
                                              .packed_seq_params = input.packed_seq_params};
    const at::ScalarType dtype =
        accumulation_dtype(c10::typeMetaToScalarType(options_.tensor.dtype()));
    result.rotary = rotary_embedding_->table(tokens, dtype, options_.tensor.device());
    result.rotary_local = rotary_embedding_->local_table(tokens, dtype, options_.tensor.device());
  }
  return result;
}

at::Tensor GPTModel::postprocess(const GPTModelInput& input, const LayerInput& layer_input,
                                 at::Tensor hidden_states, const ForwardContext& context) const {
  const bool gather = input.runtime_gather_output.value_or(!config_.parallel_output);
  std::vector<at::Tensor> by_depth;  // hidden states of the decoder, then of each MTP depth
  if (mtp_ && runs_mtp(input)) {
    by_depth = mtp_hidden_states(input, layer_input, hidden_states, context);
    by_depth.insert(by_depth.begin(), hidden_states);
    if (!stage_.post_process) return at::cat(by_depth);
  }
  if (!stage_.post_process) return hidden_states;
  if (stage_.receives_mtp_hidden_states && runs_mtp(input))
    by_depth = hidden_states.chunk(1 + config_.transformer.mtp.mtp_num_layers);
  if (!by_depth.empty()) hidden_states = attach_mtp_losses(input, by_depth);
  if (input.inference_context != nullptr &&
      input.inference_context->materialize_only_last_token_logits) {
    hidden_states = hidden_states.narrow(0, hidden_states.size(0) - 1, 1);
  }
  // The loss uses sharded logits even if gathered ones are requested.
  if (input.labels.defined()) return compute_output_loss(input.labels, hidden_states);
  const at::Tensor logits = compute_logits(hidden_states, gather).transpose(0, 1);
  if (!returns_fp32_logits()) return logits.contiguous();
  return logits.to(accumulation_dtype(logits.scalar_type()), /*non_blocking=*/false, /*copy=*/false,
                   at::MemoryFormat::Contiguous);
}

std::vector<at::Tensor> GPTModel::mtp_hidden_states(const GPTModelInput& input,
                                                    const LayerInput& layer_input,
                                                    const at::Tensor& hidden_states,
                                                    const ForwardContext& context) const {
  check(input.input_ids.defined(),
        "Expected input_ids besides decoder_input for multi-token prediction, but got none");
  const auto embedding = [&](const at::Tensor& ids, const at::Tensor& positions,
                             const ForwardContext& at_depth) {
    return embed(ids, positions, at_depth);
  };
  return mtp_->forward(hidden_states, input.input_ids, input.position_ids, embedding, layer_input,
                       context);
}

at::Tensor GPTModel::attach_mtp_losses(const GPTModelInput& input,
                                       const std::vector<at::Tensor>& by_depth) const {
  check(input.input_ids.defined(), "Expected input_ids for the MTP losses, but got none");
  const ParameterPtr weight =
      config_.transformer.mtp.mtp_detach_heads ? detached(*output_weight()) : output_weight();
  const auto head = [&](const at::Tensor& mtp_hidden_states, const at::Tensor& labels) {
    return compute_head(mtp_hidden_states, labels, weight, input.mtp_record != nullptr);
  };
  return process_mtp_loss(by_depth.front(), {by_depth.begin() + 1, by_depth.end()},
                          {.input_ids = input.input_ids,
                           .labels = input.labels,
                           .loss_mask = input.loss_mask,
                           .packed_seq_params = input.packed_seq_params,
                           .cp = groups_.cp},
                          head, config_.transformer, input.mtp_record);
}

std::unique_ptr<TransformerModelChunkSchedulePlan> GPTModel::build_schedule_plan(
    const GPTModelInput& arguments, const ForwardContext& given) {
  const GPTModelInput input = checked(arguments, given);
  const ForwardContext context = context_of(input, given);
  check(input.inference_context == nullptr,
        "Expected a schedule plan without an inference context, but got one; use forward()");
  check(config_.transformer.recompute.recompute_granularity != RecomputeGranularity::full,
        "Expected a schedule plan without full recomputation, but got recompute_granularity full; "
        "selective works");
  const auto pass =
      std::make_shared<SchedulePass>(SchedulePass{.layer_input = {}, .context = context});
  ScheduleNode pre_process([this, input, pass](const Tensors&) {
    pass->layer_input = layer_input(input, pass->context);
    return Tensors{preprocess(input, pass->context)};
  });
  std::vector<TransformerLayerSchedulePlan> layers;
  for (const auto& layer : decoder_->layers()) {
    const int64_t layer_number = stage_.first_layer + std::ssize(layers) + 1;
    layers.push_back(TransformerLayerSchedulePlan::of(*layer, layer_number, pass));
  }
  ScheduleNode post_process;
  if (stage_.post_process || stage_.has_mtp_layers(config_.transformer)) {
    post_process = ScheduleNode([this, input, pass](const Tensors& hidden_states) {
      return Tensors{postprocess(input, pass->layer_input, decoder_->normalized(hidden_states[0]),
                                 pass->context)};
    });
  }
  return std::make_unique<TransformerModelChunkSchedulePlan>(
      std::move(pre_process), std::move(layers), std::move(post_process));
}

}  // namespace megatron
