// Latent attention without keys and values of its own: scores are products with the cached latents
// themselves. q . (W_k c) = (W_k^T q) . c and sum p (W_v c) = W_v (sum p c), so that the
// projections up move from every cached token to the few new queries and outputs (DeepSeek-V2,
// 2024, 2.1.2).
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// Whether that takes fewer products per cached token than projecting it up: true for single tokens,
// false for long prompts.
bool absorption_pays(const MultiLatentAttentionConfig& config, int64_t queries);

class LatentAbsorption {
 public:
  // up_weight [n_p * (d + dv), c]: that of linear_kv_up_proj. Shapes as in
  // multi_latent_attention.h.
  LatentAbsorption(const MultiLatentAttentionConfig& config, const at::Tensor& up_weight);

  // [s, b, n_p, d + r] -> [s, b, n_p, c + r], to be multiplied with [latent; rotated key].
  at::Tensor absorb_queries(const at::Tensor& query) const;
  // Latents by head [s, b, n_p * c] -> values [s, b, n_p * dv].
  at::Tensor lift_values(const at::Tensor& latents) const;

 private:
  at::Tensor up_k_, up_v_;  // [n_p, d, c], [n_p, dv, c]
};

}  // namespace megatron
