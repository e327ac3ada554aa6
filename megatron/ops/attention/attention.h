// Scaled dot-product attention of one rank's heads. q [sq,b,n,d], k and v [sk,b,g,d], n a multiple
// of g (grouped queries share a key-value head) -> [sq,b,n*d].
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/random/dropout.h"

namespace megatron {

// Query i sees the keys 0..i; sq = sk. No dropout. Flash attention: never holds sq x sk scores.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            double scale);

// The same by cuDNN; CUDA tensors in half precision only.
at::Tensor cudnn_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           double scale);

// Dropout on the attention probabilities; see attention_dropout.
struct AttentionDropout {
  double p = 0.0;
  DropoutKey key;
  DropoutIndex queries;
  int64_t head_offset = 0;
};

// Megatron's window_size: a query at position p sees the keys from p - left to p + right; a
// negative bound is none.
struct AttentionWindow {
  int64_t left = -1, right = -1;
};

struct CoreAttentionOptions {
  double scale = 1.0;  // of the products q k, before they are rounded to the dtype of q
  // Multiplies the rounded products in accumulation_dtype, before bias and softmax (Megatron's
  // apply_query_key_layer_scaling).
  double softmax_coefficient = 1.0;
  // Query i stands at position i + query_offset (the number of keys cached before the first query)
  // and, where causal, sees the keys up to its position; window narrows that.
  bool causal = true;
  int64_t query_offset = 0;
  std::optional<AttentionWindow> window;
  at::Tensor mask;  // bool, [1 or b, 1, sq, sk], true = masked; or undefined
  at::Tensor bias;  // floating, [1 or b, 1 or n, sq, sk], added to the scaled scores; or undefined
  // [n]: the logit of a sink per head, one more term in the denominator; or undefined
  at::Tensor softmax_offset;
  AttentionDropout dropout;  // p 0: none
};

// Attention with the scores held in full (Megatron's DotProductAttention): softmax in
// accumulation_dtype, hidden scores filled with -10000, so that a row that sees nothing weighs all
// keys alike.
at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const CoreAttentionOptions& options);

namespace reference {
at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const CoreAttentionOptions& options);
}  // namespace reference

}  // namespace megatron
