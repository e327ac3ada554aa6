#include "megatron/transformer/latent_absorption.h"

#include <ATen/ATen.h>

namespace megatron {

bool absorption_pays(const MultiLatentAttentionConfig& config, int64_t queries) {
  const int64_t c = config.kv_lora_rank, r = config.qk_pos_emb_head_dim;
  const int64_t d = config.qk_head_dim, dv = config.v_head_dim;
  return queries * (c + r + c) <= c * (d + dv) + queries * (d + r + dv);
}

LatentAbsorption::LatentAbsorption(const MultiLatentAttentionConfig& config,
                                   const at::Tensor& up_weight) {
  const at::Tensor by_head =
      up_weight.view({-1, config.qk_head_dim + config.v_head_dim, config.kv_lora_rank});
  up_k_ = by_head.narrow(1, 0, config.qk_head_dim);
  up_v_ = by_head.narrow(1, config.qk_head_dim, config.v_head_dim);
}

at::Tensor LatentAbsorption::absorb_queries(const at::Tensor& query) const {
  const int64_t d = up_k_.size(1);
  return at::cat({at::einsum("sbnd,ndc->sbnc", {query.narrow(3, 0, d), up_k_}),
                  query.narrow(3, d, query.size(3) - d)},
                 3);
}

at::Tensor LatentAbsorption::lift_values(const at::Tensor& latents) const {
  const at::Tensor by_head =
      latents.view({latents.size(0), latents.size(1), up_v_.size(0), up_v_.size(2)});
  return at::einsum("sbnc,nvc->sbnv", {by_head, up_v_}).flatten(2);
}

}  // namespace megatron
