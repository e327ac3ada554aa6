#include "megatron/planner/flops.h"

namespace megatron {
namespace {

struct AttentionSize {
  double weights;   // of the projections of one layer
  double features;  // n (d + dv): each is multiplied s^2 times
};

AttentionSize attention_size(const TransformerConfig& t) {
  const double h = t.hidden_size, n = t.num_attention_heads;
  const double d = t.head_dim();
  return {.weights = h * (n * d + 2.0 * t.query_groups() * d) + n * d * h, .features = n * (d + d)};
}

AttentionSize latent_attention_size(const TransformerConfig& t) {
  const MultiLatentAttentionConfig& mla = t.mla;
  const double h = t.hidden_size, n = t.num_attention_heads, dv = mla.v_head_dim;
  const double query_size = n * mla.query_head_dim();
  const double queries =
      mla.q_lora_rank ? double(*mla.q_lora_rank) * (h + query_size) : h * query_size;
  const double keys_and_values = h * (mla.kv_lora_rank + mla.qk_pos_emb_head_dim) +
                                 mla.kv_lora_rank * n * (mla.qk_head_dim + dv);
  return {.weights = queries + keys_and_values + n * dv * h, .features = query_size + n * dv};
}

// The weights that a token is multiplied by in the MLP of a layer, or in its router, its k experts and
// the shared ones.
double mlp_size(const TransformerConfig& t, bool has_experts) {
  const double h = t.hidden_size, matrices = t.gated_linear_unit ? 3 : 2;
  if (!has_experts) return matrices * h * double(t.ffn_size());
  const MoeConfig& moe = t.moe;
  const double shared = double(moe.moe_shared_expert_intermediate_size.value_or(0));
  return h * double(*moe.num_moe_experts) +
         matrices * h * (double(moe.moe_router_topk) * double(t.moe_ffn_size()) + shared);
}

}  // namespace

double model_flops(const GPTModelConfig& config, int64_t sequences) {
  const TransformerConfig& t = config.transformer;
  const double h = t.hidden_size, s = config.seq_length;
  const AttentionSize attention =
      t.mla.multi_latent_attention ? latent_attention_size(t) : attention_size(t);
  // Each MTP depth adds a layer like the last one, eh_proj and another pass through the output layer.
  const double depths = double(t.mtp.mtp_num_layers), layers = double(t.num_layers) + depths;
  double mlp_weights = 0;
  for (int64_t number = 1; number <= t.num_layers; ++number)
    mlp_weights +=
        mlp_size(t, t.moe.is_moe_layer(number)) * (number == t.num_layers ? 1 + depths : 1);
  const double weights = layers * attention.weights + mlp_weights + depths * 2 * h * h +
                         (1 + depths) * h * double(config.padded_vocab_size());
  const double scores = 3.0 * s * s * attention.features * layers;
  return sequences * (6.0 * s * weights + scores);
}

}  // namespace megatron
