// Weight absorption for multi-latent attention (DeepSeek-V2, 2024, section 2.1.2): attention scores
// are computed against cached latents directly, without materializing keys and values.
// q . (W_k c) = (W_k^T q) . c and sum p (W_v c) = W_v (sum p c), so the up-projections apply to the
// few new queries and outputs rather than to every cached token.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// True where absorption needs fewer multiplications per cached token than up-projecting the token:
// for decoding steps, not for long prompts.
bool absorption_pays(const MultiLatentAttentionConfig& config, int64_t queries);

class LatentAbsorption {
 public:
  // up_weight [n_p * (d + dv), c]: the weight of linear_kv_up_proj. See multi_latent_attention.h
  // for the shape letters.
  LatentAbsorption(const MultiLatentAttentionConfig& config, const at::Tensor& up_weight);

  // [s, b, n_p, d + r] -> [s, b, n_p, c + r], queries against [latent; rotated key].
  at::Tensor absorb_queries(const at::Tensor& query) const;
  // Attention outputs in latent space [s, b, n_p * c] -> values [s, b, n_p * dv].
  at::Tensor lift_values(const at::Tensor& latents) const;

 private:
  at::Tensor up_k_, up_v_;  // [n_p, d, c], [n_p, dv, c]
};

}  // namespace megatron
