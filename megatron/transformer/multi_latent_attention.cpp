#include "megatron/transformer/multi_latent_attention.h"

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/attention/rope.h"
#include "megatron/ops/recompute.h"
#include "megatron/parallel/collectives.h"
#include "megatron/transformer/latent_absorption.h"

namespace megatron {

double latent_softmax_scale(const MultiLatentAttentionConfig& config) {
  const double growth = yarn_mscale(config.yarn.rotary_scaling_factor, config.yarn.mscale_all_dim);
  return growth * growth / std::sqrt(static_cast<double>(config.query_head_dim()));
}

MLASelfAttention::MLASelfAttention(const TransformerConfig& config,
                                   const MLASelfAttentionSubmodules& submodules,
                                   int64_t layer_number, const LayerOptions& options)
    : config_(config),
      options_(options),
      layer_number_(layer_number),
      heads_p_(divide(config.num_attention_heads, options.tp->size(), "num_attention_heads")) {
  core_attention_ = register_module(
      "core_attention",
      submodules.core_attention(config, layer_number, latent_softmax_scale(config.mla), options));
  linear_proj_ = register_module(
      "linear_proj", std::make_shared<RowParallelLinear>(
                         RowParallelLinearArguments{
                             .input_size = config.num_attention_heads * config.mla.v_head_dim,
                             .output_size = config.hidden_size,
                             .bias = config.add_bias_linear,
                             .init_std = config.output_layer_std()},
                         options));
  make_query_projection(submodules);
  make_key_value_projection(submodules);
}

void MLASelfAttention::make_query_projection(const MLASelfAttentionSubmodules& submodules) {
  const MultiLatentAttentionConfig& mla = config_.mla;
  const auto make_projection = [&](int64_t input_size) {
    return std::make_shared<ColumnParallelLinear>(
        ColumnParallelLinearArguments{
            .input_size = input_size,
            .output_size = config_.num_attention_heads * mla.query_head_dim(),
            .bias = false,
            .init_std = config_.hidden_std()},
        options_);
  };
  if (!mla.q_lora_rank) {
    linear_q_proj_ = register_module("linear_q_proj", make_projection(config_.hidden_size));
    return;
  }
  linear_q_down_proj_ = register_module(
      "linear_q_down_proj", std::make_shared<ReplicatedLinear>(
                                ReplicatedLinearArguments{.input_size = config_.hidden_size,
                                                          .output_size = *mla.q_lora_rank,
                                                          .init_std = config_.hidden_std()},
                                options_));
  linear_q_up_proj_ = register_module("linear_q_up_proj", make_projection(*mla.q_lora_rank));
  if (submodules.q_layernorm)
    q_layernorm_ = register_module("q_layernorm", submodules.q_layernorm(config_, options_));
}

void MLASelfAttention::make_key_value_projection(const MLASelfAttentionSubmodules& submodules) {
  const MultiLatentAttentionConfig& mla = config_.mla;
  linear_kv_down_proj_ = register_module(
      "linear_kv_down_proj",
      std::make_shared<ReplicatedLinear>(
          ReplicatedLinearArguments{.input_size = config_.hidden_size,
                                    .output_size = mla.kv_lora_rank + mla.qk_pos_emb_head_dim,
                                    .init_std = config_.hidden_std()},
          options_));
  linear_kv_up_proj_ = register_module(
      "linear_kv_up_proj",
      std::make_shared<ColumnParallelLinear>(
          ColumnParallelLinearArguments{
              .input_size = mla.kv_lora_rank,
              .output_size = config_.num_attention_heads * (mla.qk_head_dim + mla.v_head_dim),
              .bias = false,
              .init_std = config_.hidden_std()},
          options_));
  if (submodules.kv_layernorm)
    kv_layernorm_ = register_module("kv_layernorm", submodules.kv_layernorm(config_, options_));
}

at::Tensor MLASelfAttention::rotated(const at::Tensor& features, const LayerInput& input) const {
  if (!input.rotary.defined() || !config_.has_rope(layer_number_)) return features;
  return apply_rotary(features, input.rotary.cos, input.rotary.sin, /*interleaved=*/true);
}

MLASelfAttention::Latents MLASelfAttention::project_down(const at::Tensor& hidden_states,
                                                         const LayerInput& input) const {
  at::Tensor query = hidden_states;
  if (linear_q_down_proj_) query = linear_q_down_proj_->forward(query);
  if (q_layernorm_) query = q_layernorm_->forward(query);

  const at::Tensor mixed = linear_kv_down_proj_->forward(hidden_states);
  const int64_t c = config_.mla.kv_lora_rank, r = config_.mla.qk_pos_emb_head_dim;
  at::Tensor key_value = mixed.narrow(2, 0, c);
  if (kv_layernorm_) key_value = kv_layernorm_->forward(key_value);
  // The heads of all ranks share this key, so its gradient is summed over TP.
  const at::Tensor rotary_key = mixed.narrow(2, c, r);
  const at::Tensor key_position =
      options_.sequence_parallel ? gather_from_sequence_parallel_region(rotary_key, *options_.tp)
                                 : copy_to_tensor_model_parallel_region(rotary_key, *options_.tp);
  return {query, key_value, rotated(key_position.unsqueeze(2), input)};
}

at::Tensor MLASelfAttention::queries(const Latents& latents, const LayerInput& input) const {
  const int64_t d = config_.mla.qk_head_dim, r = config_.mla.qk_pos_emb_head_dim;
  const at::Tensor flat =
      (linear_q_proj_ ? linear_q_proj_ : linear_q_up_proj_)->forward(latents.query);
  const at::Tensor heads = flat.view({flat.size(0), flat.size(1), heads_p_, d + r});
  return at::cat({heads.narrow(3, 0, d), rotated(heads.narrow(3, d, r), input)}, 3);
}

std::pair<at::Tensor, at::Tensor> MLASelfAttention::keys_and_values(
    const at::Tensor& up, const at::Tensor& key_position) const {
  const int64_t d = config_.mla.qk_head_dim, dv = config_.mla.v_head_dim;
  const at::Tensor heads = up.view({up.size(0), up.size(1), heads_p_, d + dv});
  const at::Tensor key =
      at::cat({heads.narrow(3, 0, d), key_position.expand({-1, -1, heads_p_, -1})}, 3);
  return {key, heads.narrow(3, d, dv)};
}

MLASelfAttention::Heads MLASelfAttention::project_up(const Latents& latents,
                                                     const LayerInput& input) const {
  const at::Tensor query = queries(latents, input);
  const auto [key, value] =
      keys_and_values(linear_kv_up_proj_->forward(latents.key_value), latents.key_position);
  return {query, key, value};
}

at::Tensor MLASelfAttention::attend_cached_latents(const Latents& latents, const LayerInput& input,
                                                   const ForwardContext& context) const {
  const MultiLatentAttentionConfig& mla = config_.mla;
  const at::Tensor key_value = options_.sequence_parallel ? gather_from_sequence_parallel_region(
                                                                latents.key_value, *options_.tp)
                                                          : latents.key_value;
  const at::Tensor cached = input.inference->append(
      layer_number_, "latents", at::cat({key_value, latents.key_position.squeeze(2)}, 2));
  const at::Tensor query = queries(latents, input);
  const at::Tensor& weight = linear_kv_up_proj_->weight()->data;
  if (absorption_pays(mla, query.size(0))) {
    const LatentAbsorption absorption(mla, weight);
    const at::Tensor key = cached.unsqueeze(2);  // shared by all heads; begins with the values
    return absorption.lift_values(core_attention_->forward(
        absorption.absorb_queries(query), key, key.narrow(3, 0, mla.kv_lora_rank), input, context));
  }
  const auto [key, value] =
      keys_and_values(at::linear(cached.narrow(2, 0, mla.kv_lora_rank), weight),
                      cached.narrow(2, mla.kv_lora_rank, mla.qk_pos_emb_head_dim).unsqueeze(2));
  return core_attention_->forward(query, key, value, input, context);
}

OutputAndBias MLASelfAttention::forward(const at::Tensor& hidden_states, const LayerInput& input,
                                        const ForwardContext& context) const {
  const Latents latents = project_down(hidden_states, input);
  at::Tensor attended;
  if (input.inference != nullptr && config_.mla.cache_mla_latents) {
    attended = attend_cached_latents(latents, input, context);
  } else {
    const auto project = [this, input](const Tensors& list) {
      const Heads heads = project_up({list[0], list[1], list[2]}, input);
      return Tensors{heads.query, heads.key, heads.value};
    };
    const Recomputation up(config_.recompute.selects("mla_up_proj"), project,
                           {latents.query, latents.key_value, latents.key_position});
    at::Tensor key = up.outputs()[1], value = up.outputs()[2];
    if (input.inference != nullptr)
      std::tie(key, value) = input.inference->append(layer_number_, key, value);
    attended = core_attention_->forward_recomputed(config_.recompute.selects("core_attn"),
                                                   up.outputs()[0], key, value, input, context);
    if (input.inference == nullptr) up.discard_outputs(/*result=*/attended);
  }
  return {linear_proj_->forward(attended), linear_proj_->bias()};
}

}  // namespace megatron
