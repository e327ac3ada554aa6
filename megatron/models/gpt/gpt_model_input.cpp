#include "megatron/models/gpt/gpt_model_input.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

void expect_shape(const at::Tensor& tensor, at::IntArrayRef shape, const char* name) {
  check(!tensor.defined() || tensor.sizes() == shape, "Expected {} of shape {}, but got {}", name,
        shape.vec(), tensor.sizes().vec());
}

// With decoder_input there may be labels and masks without ids.
void check_tokens(const GPTModelInput& input, const GPTModelConfig& config, int64_t b, int64_t s) {
  const at::Tensor& ids = input.input_ids;
  check(!ids.defined() || (ids.dim() == 2 && ids.size(1) == s && ids.scalar_type() == at::kLong),
        "Expected input_ids of shape [b, {}] and dtype int64, but got {} and {}", s,
        ids.defined() ? ids.sizes().vec() : std::vector<int64_t>{},
        ids.defined() ? c10::toString(ids.scalar_type()) : "");
  check(!ids.defined() || ids.size(0) == b,
        "Expected input_ids with {} rows (sample ordinals), but got {}", b,
        ids.defined() ? ids.size(0) : 0);
  const std::vector<int64_t> shape = {b, s};
  expect_shape(input.labels, shape, "labels");
  expect_shape(input.loss_mask, shape, "loss_mask");
  expect_shape(input.padding_mask, shape, "padding_mask");
  check(!input.padding_mask.defined() || input.padding_mask.scalar_type() == at::kBool,
        "Expected a padding_mask of dtype bool (true = padding), but got {}",
        input.padding_mask.defined() ? c10::toString(input.padding_mask.scalar_type()) : "");
  const bool has_axes = config.position_embedding_type == PositionEmbeddingType::mrope &&
                        input.position_ids.defined() && input.position_ids.dim() == 3;
  if (has_axes) {
    expect_shape(input.position_ids, {3, shape[0], shape[1]}, "position_ids");
  } else {
    expect_shape(input.position_ids, shape, "position_ids");
  }
}

void check_decoder_input(const GPTModelInput& input, const GPTModelConfig& config,
                         const PipelineStage& stage, const ForwardContext& context) {
  const at::Tensor& hidden = input.decoder_input;
  if (!hidden.defined()) return;
  check(stage.pre_process,
        "Expected decoder_input on the first pipeline stage, but got it on stage {}; "
        "use set_input_tensor there",
        stage.rank);
  const std::vector<int64_t> shape = {context.residual_positions.size(0),
                                      context.sample_ordinals.size(0),
                                      config.transformer.hidden_size};
  expect_shape(hidden, shape, "decoder_input");
}

// A mask or bias of the attention scores `shape` [b, heads, sq, sk]; b and heads may broadcast.
void check_scores(const at::Tensor& tensor, const char* name, at::IntArrayRef shape) {
  const int64_t b = shape[0], heads = shape[1];
  check(!tensor.defined() || (tensor.dim() == 4 && (tensor.size(0) == 1 || tensor.size(0) == b) &&
                              (tensor.size(1) == 1 || tensor.size(1) == heads) &&
                              tensor.sizes().slice(2) == shape.slice(2)),
        "Expected {} of shape [1 or {}, {}, {}, {}], but got {}", name, b,
        heads == 1 ? std::string("1") : fmt::format("1 or {}", heads), shape[2], shape[3],
        tensor.defined() ? tensor.sizes().vec() : std::vector<int64_t>{});
}

void check_attention_arguments(const GPTModelInput& input, const TransformerConfig& config,
                               const ForwardContext& context) {
  const int64_t s_p = context.positions.size(0), b = context.sample_ordinals.size(0);
  const int64_t s = s_p * config.context_parallel_size;
  const int64_t keys =
      s + (input.inference_context ? input.inference_context->sequence_length_offset() : 0);
  const int64_t heads_p = config.num_attention_heads / config.tensor_model_parallel_size;
  const at::Tensor &mask = input.attention_mask, &bias = input.extra_block_arguments.attention_bias;
  check(!mask.defined() || mask.scalar_type() == at::kBool,
        "Expected an attention mask of dtype bool (true = masked out), but got {}; mask.to(bool) "
        "works",
        mask.defined() ? c10::toString(mask.scalar_type()) : "");
  check_scores(mask, "an attention mask", {b, 1, s, keys});
  check(!bias.defined() || bias.is_floating_point(),
        "Expected a floating-point attention bias, but got {}; pass a mask as attention_mask",
        bias.defined() ? c10::toString(bias.scalar_type()) : "");
  check_scores(bias, "an attention bias", {b, heads_p, s, keys});
  const auto& rotary = input.extra_block_arguments.rotary;
  check(!rotary || (rotary->defined() && rotary->cos.size(0) == s_p &&
                    rotary->sin.sizes() == rotary->cos.sizes()),
        "Expected rotary tables for {} positions, but got {}", s_p,
        rotary && rotary->defined() ? rotary->cos.size(0) : 0);
  if (!input.packed_seq_params) return;
  check(b == 1, "Expected one row (b = 1) of packed sequences, but got {}; concatenate the rows",
        b);
  input.packed_seq_params->checked_offsets(s);
}

// A query has the position of its key from the right: query i of sq is at sk - sq + i.
void check_hides_later_keys(const at::Tensor& mask) {
  if (!mask.defined()) return;
  const at::NoGradGuard no_grad;
  const int64_t first_later = mask.size(-1) - mask.size(-2) + 1;
  check(!mask.logical_not().triu(first_later).any().item<bool>(),
        "Expected an attention mask that hides all later keys, but got one that shows some; layers "
        "with attn_mask_type arbitrary, as those of modelopt_transformer_layer_spec, take any");
}

void check_inference(const GPTModelInput& input, const GPTModelConfig& config,
                     const PipelineStage& stage) {
  const InferenceContext* inference = input.inference_context;
  if (inference == nullptr) return;
  check(!input.packed_seq_params,
        "Expected packed sequences or an inference context, but got both; pass one of them");
  check(!config.transformer.sequence_parallel,
        "Expected an inference context without sequence parallelism, but got both; turn "
        "sequence_parallel off");
  check(config.transformer.context_parallel_size == 1,
        "Expected an inference context without context parallelism, but got "
        "context_parallel_size {}; 1 works",
        config.transformer.context_parallel_size);
  if (!stage.post_process) return;
  check(input.runtime_gather_output.value_or(!config.parallel_output),
        "Expected gathered logits with an inference context, but got logits sharded over the "
        "tensor-parallel ranks; runtime_gather_output = true works");
  check(!input.labels.defined() || !inference->materialize_only_last_token_logits,
        "Expected labels or last-token logits, but got both; "
        "materialize_only_last_token_logits = false works");
}

}  // namespace

GPTModelInput checked_input(GPTModelInput input, const GPTModelConfig& config,
                            const PipelineStage& stage, const ForwardContext& context,
                            bool takes_arbitrary_masks) {
  check(input.inference_context == nullptr || input.inference_params == nullptr ||
            input.inference_context == input.inference_params,
        "Expected inference_context or its deprecated name inference_params, but got two different "
        "contexts; pass inference_context only");
  if (input.inference_context == nullptr) input.inference_context = input.inference_params;
  const int64_t s = context.positions.size(0), b = context.sample_ordinals.size(0);
  check_tokens(input, config, b, s);
  check_decoder_input(input, config, stage, context);
  check_attention_arguments(input, config.transformer, context);
  if (!takes_arbitrary_masks) check_hides_later_keys(input.attention_mask);
  check_inference(input, config, stage);
  return input;
}

}  // namespace megatron
