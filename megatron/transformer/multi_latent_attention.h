// Multi-latent self-attention (DeepSeek-V2, 2024; Megatron's MLASelfAttention). Keys and values are
// up-projected from one latent per token; a second, small rotary key is shared by all heads.
// Queries are projected from the hidden states, through a latent if q_lora_rank is set.
//
//   c_kv [c], k_pos [r] = linear_kv_down_proj(x)         c = kv_lora_rank, r = qk_pos_emb_head_dim
//   per head: key = [up_k norm(c_kv); rotated k_pos], value = up_v norm(c_kv)
//
// Down-projections are replicated over tensor-parallel ranks; up-projections are split by heads.
#pragma once

#include "megatron/tensor_parallel/parallel_linear.h"
#include "megatron/tensor_parallel/replicated_linear.h"
#include "megatron/transformer/attention.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/norm.h"

namespace megatron {

class MLASelfAttention : public Attention {
 public:
  // Slots: linear_kv_down_proj, linear_kv_up_proj, core_attention, linear_proj; linear_q_proj
  // without q_lora_rank, else linear_q_down_proj and linear_q_up_proj; kv_layernorm and q_layernorm
  // over the latent features, which may be empty: an up-projection may normalize its input itself.
  // Without q_lora_rank queries are not normalized. Parameter: attn_mask_type.
  explicit MLASelfAttention(const BuildArguments& arguments);

  // input.rotary is an interleaved table over r features: adjacent features form a pair, as in
  // DeepSeek's checkpoints.
  OutputAndBias forward(const at::Tensor& hidden_states, const LayerInput& input,
                        const ForwardContext& context) const override;
  bool takes_arbitrary_masks() const override { return takes_arbitrary_masks_; }

 private:
  // Outputs of the down-projections. A latent cache stores `key_value` and `key_position` only.
  struct Latents {
    at::Tensor query;         // [s/tp, b, q_lora_rank], or the hidden states
    at::Tensor key_value;     // [s/tp, b, c], the input of linear_kv_up_proj
    at::Tensor key_position;  // [s, b, 1, r], rotated
  };
  struct Heads {
    at::Tensor query, key;  // [s, b, n_p, d + r]
    at::Tensor value;       // [s, b, n_p, dv]
  };

  void make_query_projection(const BuildArguments& arguments);
  void make_key_value_projection(const BuildArguments& arguments);

  Latents project_down(const at::Tensor& hidden_states, const LayerInput& input) const;
  Heads project_up(const Latents& latents, const LayerInput& input) const;
  at::Tensor queries(const Latents& latents, const LayerInput& input) const;
  // up [s, b, n_p * (d + dv)], the output of linear_kv_up_proj -> (key, value).
  std::pair<at::Tensor, at::Tensor> keys_and_values(const at::Tensor& up,
                                                    const at::Tensor& key_position) const;
  at::Tensor rotated(const at::Tensor& features, const LayerInput& input) const;

  // Appends the latents to the cache and attends over all cached latents -> [s, b, n_p * dv].
  at::Tensor attend_cached_latents(const Latents& latents, const LayerInput& input,
                                   const ForwardContext& context) const;

  TransformerConfig config_;
  LayerOptions options_;
  int64_t layer_number_;
  int64_t heads_p_;
  bool takes_arbitrary_masks_;
  std::shared_ptr<CoreAttention> core_attention_;
  std::shared_ptr<RowLinear> linear_proj_;
  std::shared_ptr<ColumnLinear> linear_q_proj_;           // without q_lora_rank
  std::shared_ptr<ReplicatedLinear> linear_q_down_proj_;  // with q_lora_rank
  std::shared_ptr<ColumnLinear> linear_q_up_proj_;        // with q_lora_rank
  std::shared_ptr<ReplicatedLinear> linear_kv_down_proj_;
  std::shared_ptr<ColumnLinear> linear_kv_up_proj_;
  std::shared_ptr<Norm> q_layernorm_, kv_layernorm_;  // may be null
};

// mscale^2 / sqrt(d + r), where mscale is YaRN's score scale (1 by default).
double latent_softmax_scale(const MultiLatentAttentionConfig& config);

}  // namespace megatron
