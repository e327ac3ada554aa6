// Multi-latent self-attention (DeepSeek-V2, 2024; Megatron's MLASelfAttention). Keys and values are
// projected up from one latent of a token; a second, small key carries the token's position and is
// shared by all heads. Queries come from a latent of their own or straight from the hidden states.
//
//   c_kv [c], k_pos [r] = linear_kv_down_proj(x)         c = kv_lora_rank, r = qk_pos_emb_head_dim
//   per head: key = [up_k norm(c_kv); rotated k_pos], value = up_v norm(c_kv)
//
// The projections down are held whole by every tensor-parallel rank, those up are split by heads.
#pragma once

#include <functional>

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/replicated_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/attention.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/norm.h"

namespace megatron {

struct MLASelfAttentionSubmodules {
  std::function<std::shared_ptr<CoreAttention>(const TransformerConfig&, int64_t layer_number,
                                               double softmax_scale, const LayerOptions&)>
      core_attention;
  // Over a latent's features; may be empty. Queries without a latent are not normalised.
  std::function<std::shared_ptr<Norm>(const TransformerConfig&, const LayerOptions&)> q_layernorm,
      kv_layernorm;
};

class MLASelfAttention : public Attention {
 public:
  // layer_number: global, from 1.
  MLASelfAttention(const TransformerConfig& config, const MLASelfAttentionSubmodules& submodules,
                   int64_t layer_number, const LayerOptions& options);

  // Rotates with input.rotary, an interleaved table over r features: neighbouring features are a
  // pair, as in DeepSeek's checkpoints.
  OutputAndBias forward(const at::Tensor& hidden_states, const LayerInput& input,
                        const ForwardContext& context) const override;

 private:
  // What is left of the tokens after the projections down; all that a compressed cache keeps of
  // them is `key_value` and `key_position`.
  struct Latents {
    at::Tensor query;         // [s/tp, b, q_lora_rank], or the hidden states
    at::Tensor key_value;     // [s/tp, b, c], normalised
    at::Tensor key_position;  // [s, b, 1, r], rotated
  };
  struct Heads {
    at::Tensor query, key, value;  // [s, b, n_p, d + r] twice, [s, b, n_p, dv]
  };

  void make_query_projection(const MLASelfAttentionSubmodules& submodules);
  void make_key_value_projection(const MLASelfAttentionSubmodules& submodules);

  Latents project_down(const at::Tensor& hidden_states, const LayerInput& input) const;
  Heads project_up(const Latents& latents, const LayerInput& input) const;
  at::Tensor queries(const Latents& latents, const LayerInput& input) const;
  // up [s, b, n_p * (d + dv)], the output of linear_kv_up_proj -> key and value.
  std::pair<at::Tensor, at::Tensor> keys_and_values(const at::Tensor& up,
                                                    const at::Tensor& key_position) const;
  at::Tensor rotated(const at::Tensor& features, const LayerInput& input) const;

  // Attention over the latents that were cached and those of this pass -> [s, b, n_p * dv].
  at::Tensor attend_cached_latents(const Latents& latents, const LayerInput& input,
                                   const ForwardContext& context) const;

  TransformerConfig config_;
  LayerOptions options_;
  int64_t layer_number_;
  int64_t heads_p_;
  std::shared_ptr<CoreAttention> core_attention_;
  std::shared_ptr<RowParallelLinear> linear_proj_;
  std::shared_ptr<ColumnParallelLinear> linear_q_proj_;     // without a latent of the queries
  std::shared_ptr<ReplicatedLinear> linear_q_down_proj_;    // with one
  std::shared_ptr<ColumnParallelLinear> linear_q_up_proj_;  // with one
  std::shared_ptr<ReplicatedLinear> linear_kv_down_proj_;
  std::shared_ptr<ColumnParallelLinear> linear_kv_up_proj_;
  std::shared_ptr<Norm> q_layernorm_, kv_layernorm_;
};

// mscale^2 / sqrt(d + r): YaRN's growth of all scores, 1 by default.
double latent_softmax_scale(const MultiLatentAttentionConfig& config);

}  // namespace megatron
