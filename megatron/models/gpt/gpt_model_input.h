// What a forward pass of GPTModel is given.
#pragma once

#include <optional>

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/models/common/multi_token_prediction_loss.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"
#include "megatron/transformer/transformer_block.h"

namespace megatron {

// What a forward pass may hand straight to the decoder (Megatron's extra_block_kwargs).
struct ExtraBlockArguments {
  at::Tensor attention_bias;          // [1 or b, 1 or n_p, sq, sk], added to the attention scores
  std::optional<RotaryTable> rotary;  // instead of the model's own tables
};

// ids, positions, labels and loss mask are [b, s]; positions [3, b, s] with mrope. The mask is bool
// [1 or b, 1, sq, sk] with true = masked out; undefined: causal. With context parallelism these are
// this rank's tokens (zigzag.h), [b, s/cp]; the mask, the attention bias and packed_seq_params are
// those of the whole row, on every rank.
struct GPTModelInput {
  at::Tensor input_ids;
  at::Tensor position_ids;
  at::Tensor attention_mask;
  at::Tensor decoder_input;  // first stage: [s, b, h] ([s/tp, b, h] with sequence parallelism)
                             // instead of the embedding's output
  at::Tensor labels;         // undefined: logits are returned
  InferenceContext* inference_context = nullptr;
  std::optional<PackedSeqParams> packed_seq_params;  // b is 1 then
  ExtraBlockArguments extra_block_arguments;
  std::optional<bool> runtime_gather_output;     // else as config's parallel_output says
  InferenceContext* inference_params = nullptr;  // the old name of inference_context
  at::Tensor loss_mask;                          // of multi-token prediction's own losses
  MtpLossRecord* mtp_record = nullptr;           // weights of these losses, and their figures
};

// The input with its alias resolved, after its parts were held against each other, the model and
// the pass. Throws Error where they do not fit.
GPTModelInput checked_input(GPTModelInput input, const GPTModelConfig& config,
                            const PipelineStage& stage, const ForwardContext& context);

}  // namespace megatron
