// Inputs that all layers of a forward pass share, besides the hidden states.
#pragma once

#include "megatron/transformer/inference_context.h"
#include "megatron/transformer/packed_seq_params.h"
#include "megatron/transformer/rotary_embedding.h"

namespace megatron {

struct LayerInput {
  at::Tensor attention_mask;  // bool [1 or b, 1, sq, sk], true = masked out; undefined: causal
  at::Tensor attention_bias;  // [1 or b, 1 or n_p, sq, sk], added to the scores; may be undefined
  RotaryTable rotary;
  RotaryTable rotary_local;  // of layers with a window; undefined: `rotary`
  std::optional<PackedSeqParams> packed_seq_params;
  InferenceContext* inference = nullptr;
};

}  // namespace megatron
