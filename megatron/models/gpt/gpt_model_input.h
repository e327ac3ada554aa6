// Arguments of GPTModel's forward pass.
#pragma once

#include <optional>

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/models/common/multi_token_prediction_loss.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"
#include "megatron/transformer/transformer_block.h"

namespace megatron {

// Optional arguments of the decoder (Megatron's extra_block_kwargs).
struct ExtraBlockArguments {
  at::Tensor attention_bias;          // [1 or b, 1 or n_p, sq, sk], added to the attention scores
  std::optional<RotaryTable> rotary;  // replaces the model's tables
};

// input_ids, position_ids, labels and loss_mask are [b, s]; position_ids may be [3, b, s] with
// mrope. attention_mask is bool [1 or b, 1, sq, sk], true = masked out; undefined: causal. Layers whose
// attn_mask_type is causal take masks that hide all later keys; arbitrary: any. With
// context parallelism the token tensors hold this rank's tokens (zigzag.h), [b, s/cp], while
// attention_mask, attention_bias and packed_seq_params describe the full row on every rank.
struct GPTModelInput {
  at::Tensor input_ids;
  at::Tensor position_ids;
  at::Tensor attention_mask;
  // First stage: replaces the embedding's output, [s, b, h] ([s/tp, b, h] with sequence
  // parallelism).
  at::Tensor decoder_input;
  at::Tensor labels;  // undefined: forward returns logits
  InferenceContext* inference_context = nullptr;
  std::optional<PackedSeqParams> packed_seq_params;  // requires b = 1
  ExtraBlockArguments extra_block_arguments;
  std::optional<bool> runtime_gather_output;     // overrides parallel_output
  InferenceContext* inference_params = nullptr;  // deprecated name of inference_context
  at::Tensor loss_mask;                          // of the MTP losses
  // [b, s] bool, true = padding: tokens that experts ignore. They still attend.
  at::Tensor padding_mask;
  MtpLossRecord* mtp_record = nullptr;  // weights and statistics of the MTP losses
};

// Resolves inference_params and checks the arguments against each other, the model and the context.
// Throws Error on a mismatch. Unless the model takes arbitrary masks, a mask must hide all later
// keys.
GPTModelInput checked_input(GPTModelInput input, const GPTModelConfig& config,
                            const PipelineStage& stage, const ForwardContext& context,
                            bool takes_arbitrary_masks);

}  // namespace megatron
