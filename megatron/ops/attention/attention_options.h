// The options that all implementations of attention share.
#pragma once

#include "megatron/ops/attention/attention_mask.h"
#include "megatron/ops/random/dropout.h"

namespace megatron {

// Dropout of the attention probabilities, with the masks of attention_dropout. Its columns are the
// mask's key_positions, or without those the rows of k.
struct AttentionDropout {
  double p = 0.0;  // 0: no dropout
  DropoutKey key;
  DropoutIndex queries;
  int64_t head_offset = 0;  // the global number of the first head
};

struct AttentionOptions {
  double scale = 1.0;  // multiplies the products q k, before they are rounded to the dtype of q
  // Multiplies the rounded products in accumulation_dtype, before bias and softmax (Megatron's
  // apply_query_key_layer_scaling). core_attention only: other implementations do not round.
  double softmax_coefficient = 1.0;
  // cap * tanh(score / cap) of the scaled scores, before bias and mask; 0: no cap. Not together with
  // a softmax_coefficient.
  double soft_cap = 0.0;
  AttentionMask mask;
  // [1 or b, 1 or n, sq, sk], added to the scaled scores; or undefined.
  at::Tensor bias;
  // [n]: an attention sink's logit per head, one more term in the softmax's denominator; learnable,
  // or zeros for "off by one". Undefined: no sink.
  at::Tensor softmax_offset;
  AttentionDropout dropout;
};

}  // namespace megatron
