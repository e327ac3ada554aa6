#include "megatron/transformer/multi_latent_attention.h"

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/attention/rope.h"
#include "megatron/ops/recompute.h"
#include "megatron/parallel/collectives.h"
#include "megatron/transformer/latent_absorption.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

double latent_softmax_scale(const MultiLatentAttentionConfig& config) {
  const double growth = yarn_mscale(config.yarn.rotary_scaling_factor, config.yarn.mscale_all_dim);
  return growth * growth / std::sqrt(static_cast<double>(config.query_head_dim()));
}

MLASelfAttention::MLASelfAttention(const BuildArguments& arguments)
    : config_(arguments.config),
      options_(arguments.options),
      layer_number_(arguments.layer_number),
      heads_p_(divide(config_.num_attention_heads, options_.tp->size(), "num_attention_heads")),
      takes_arbitrary_masks_(has_arbitrary_masks(arguments.spec)) {
  core_attention_ = register_module(
      "core_attention", core_attention_modules().build(arguments.at("core_attention"),
                                                       latent_softmax_scale(config_.mla)));
  linear_proj_ = register_module(
      "linear_proj", row_linear_modules().build(
                         arguments.at("linear_proj"),
                         {.input_size = config_.num_attention_heads * config_.mla.v_head_dim,
                          .output_size = config_.hidden_size,
                          .bias = config_.add_bias_linear,
                          .init_std = config_.output_layer_std(),
                          .tp_comm_buffer_name = "proj"}));
  make_query_projection(arguments);
  make_key_value_projection(arguments);
}

void MLASelfAttention::make_query_projection(const BuildArguments& arguments) {
  const MultiLatentAttentionConfig& mla = config_.mla;
  const auto make_projection = [&](const char* slot, int64_t input_size) {
    return register_module(
        slot,
        column_linear_modules().build(
            arguments.at(slot), {.input_size = input_size,
                                 .output_size = config_.num_attention_heads * mla.query_head_dim(),
                                 .bias = false,
                                 .init_std = config_.hidden_std()}));
  };
  if (!mla.q_lora_rank) {
    linear_q_proj_ = make_projection("linear_q_proj", config_.hidden_size);
    return;
  }
  linear_q_down_proj_ = register_module(
      "linear_q_down_proj", replicated_linear_modules().build(arguments.at("linear_q_down_proj"),
                                                              {.input_size = config_.hidden_size,
                                                               .output_size = *mla.q_lora_rank,
                                                               .init_std = config_.hidden_std()}));
  linear_q_up_proj_ = make_projection("linear_q_up_proj", *mla.q_lora_rank);
  q_layernorm_ = build_norm(arguments.at("q_layernorm"), *mla.q_lora_rank);
  if (q_layernorm_) register_module("q_layernorm", q_layernorm_);
}

void MLASelfAttention::make_key_value_projection(const BuildArguments& arguments) {
  const MultiLatentAttentionConfig& mla = config_.mla;
  linear_kv_down_proj_ = register_module(
      "linear_kv_down_proj",
      replicated_linear_modules().build(arguments.at("linear_kv_down_proj"),
                                        {.input_size = config_.hidden_size,
                                         .output_size = mla.kv_lora_rank + mla.qk_pos_emb_head_dim,
                                         .init_std = config_.hidden_std()}));
  linear_kv_up_proj_ = register_module(
      "linear_kv_up_proj",
      column_linear_modules().build(
          arguments.at("linear_kv_up_proj"),
          {.input_size = mla.kv_lora_rank,
           .output_size = config_.num_attention_heads * (mla.qk_head_dim + mla.v_head_dim),
           .bias = false,
           .init_std = config_.hidden_std()}));
  kv_layernorm_ = build_norm(arguments.at("kv_layernorm"), mla.kv_lora_rank);
  if (kv_layernorm_) register_module("kv_layernorm", kv_layernorm_);
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
  // The cache holds normalized latents, as absorption skips the up-projection.
  at::Tensor key_value = linear_kv_up_proj_->normalized(latents.key_value);
  if (options_.sequence_parallel)
    key_value = gather_from_sequence_parallel_region(key_value, *options_.tp);
  const at::Tensor cached = input.inference->append(
      layer_number_, "latents", at::cat({key_value, latents.key_position.squeeze(2)}, 2));
  const at::Tensor query = queries(latents, input);
  const at::Tensor weight = options_.cast(linear_kv_up_proj_->weight()->data);
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
