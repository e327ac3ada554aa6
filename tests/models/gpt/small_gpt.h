// A small GPT model for tests, and inputs for its forward pass.
#pragma once

#include <functional>
#include <string>

#include <ATen/ATen.h>

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/models/gpt/gpt_layer_specs.h"

#include "tests/models/gpt/built_model.h"

namespace megatron {

// Megatron's own unit-test model: 2 layers, hidden 12, 4 heads, vocabulary 100, 4 positions.
inline GPTModelConfig small_gpt_config() {
  GPTModelConfig config;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 12;
  config.transformer.num_attention_heads = 4;
  config.transformer.hidden_dropout = config.transformer.attention_dropout = 0;
  config.vocab_size = 100;
  config.should_pad_vocab = false;
  config.seq_length = 4;
  config.share_embeddings_and_output_weights = false;
  return config;
}

inline std::shared_ptr<GPTModel> build_gpt(
    const GPTModelConfig& config, uint64_t seed = 1234,
    const ProcessGroupCollection& groups = ProcessGroupCollection::single_rank()) {
  auto model = build_gpt_model(config, groups, at::kCPU);
  initialize_weights(*model, seed);
  return model;
}

inline GPTModelInput token_input(int64_t b, int64_t s, int64_t vocab = 100) {
  return {.input_ids = (at::arange(b * s, at::kLong) * 13 % vocab).view({b, s}),
          .position_ids = at::arange(s, at::kLong).expand({b, s}).contiguous()};
}

inline ForwardContext evaluation_context(int64_t b, int64_t s) {
  return ForwardContext::make(/*training=*/false, 0, at::arange(b, at::kLong), s, false, 0, 1);
}

// A variant of attention or position embedding, as a change to a configuration.
struct AttentionVariant {
  const char* name;
  std::function<void(GPTModelConfig&)> apply;
};

// Two layers, 4 heads of 8 features, weights large enough that attention is not uniform.
inline GPTModelConfig attention_variant_config(const AttentionVariant& variant) {
  GPTModelConfig config;
  config.vocab_size = 61;
  config.make_vocab_size_divisible_by = 1;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = 16;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 32;
  config.transformer.num_attention_heads = 4;
  config.transformer.init_method_std = 0.15;
  config.transformer.hidden_dropout = config.transformer.attention_dropout = 0;
  config.position_embedding_type = PositionEmbeddingType::rope;
  variant.apply(config);
  return config;
}

inline void use_latent_attention(GPTModelConfig& config) {
  MultiLatentAttentionConfig& mla = config.transformer.mla;
  mla.multi_latent_attention = true;
  mla.kv_lora_rank = 16;
  mla.qk_head_dim = 8;
  mla.qk_pos_emb_head_dim = 4;
  mla.v_head_dim = 8;
}

inline const std::vector<AttentionVariant>& attention_variants() {
  static const std::vector<AttentionVariant> variants = {
      {"rope", [](GPTModelConfig&) {}},
      {"learned_positions",
       [](GPTModelConfig& c) {
         c.position_embedding_type = PositionEmbeddingType::learned_absolute;
       }},
      {"no_positions",
       [](GPTModelConfig& c) { c.position_embedding_type = PositionEmbeddingType::none; }},
      {"gqa", [](GPTModelConfig& c) { c.transformer.num_query_groups = 2; }},
      {"mqa", [](GPTModelConfig& c) { c.transformer.num_query_groups = 1; }},
      {"interleaved", [](GPTModelConfig& c) { c.transformer.rotary_interleaved = true; }},
      {"half_rotated", [](GPTModelConfig& c) { c.rotary_percent = 0.5; }},
      {"interpolated", [](GPTModelConfig& c) { c.seq_len_interpolation_factor = 2; }},
      {"yarn",
       [](GPTModelConfig& c) {
         c.position_embedding_type = PositionEmbeddingType::yarn;
         c.transformer.yarn.original_max_position_embeddings = 8;
       }},
      {"mrope",
       [](GPTModelConfig& c) {
         c.position_embedding_type = PositionEmbeddingType::mrope;
         c.transformer.mrope_section = {2, 1, 1};
       }},
      {"no_rope_layers", [](GPTModelConfig& c) { c.transformer.no_rope_freq = {2}; }},
      {"window",
       [](GPTModelConfig& c) {
         c.transformer.window_size = {3, 0};
       }},
      {"window_in_every_other_layer",
       [](GPTModelConfig& c) {
         c.transformer.window_size = {3, 0};
         c.transformer.window_attn_skip_freq = {2};
       }},
      {"qk_layernorm", [](GPTModelConfig& c) { c.transformer.qk_layernorm = true; }},
      {"qk_l2_norm", [](GPTModelConfig& c) { c.transformer.qk_l2_norm = true; }},
      {"output_gate", [](GPTModelConfig& c) { c.transformer.attention_output_gate = true; }},
      {"softmax_scale", [](GPTModelConfig& c) { c.transformer.softmax_scale = 0.2; }},
      {"off_by_one_softmax",
       [](GPTModelConfig& c) { c.transformer.softmax_type = SoftmaxType::off_by_one; }},
      {"learnable_sinks",
       [](GPTModelConfig& c) {
         c.transformer.softmax_type = SoftmaxType::learnable;
         c.transformer.window_size = {3, 0};
       }},
      {"soft_cap", [](GPTModelConfig& c) { c.transformer.attn_logit_softcapping = 0.5; }},
      {"soft_cap_and_window",
       [](GPTModelConfig& c) {
         c.transformer.attn_logit_softcapping = 0.5;
         c.transformer.window_size = {3, 0};
         c.transformer.softmax_type = SoftmaxType::learnable;
       }},
      {"local_base",
       [](GPTModelConfig& c) {
         c.transformer.window_size = {3, 0};
         c.transformer.window_attn_skip_freq = {2};
         c.rotary_base = 500;
         c.rotary_base_local = 20;
         c.seq_len_interpolation_factor = 2;
       }},
      {"llama3_scaling",
       [](GPTModelConfig& c) {
         c.rope_scaling = true;
         c.rope_scaling_low_freq_factor = 2;
         c.rope_scaling_high_freq_factor = 9;
         c.rope_scaling_original_max_position_embeddings = 12;
       }},
      {"longrope",
       [](GPTModelConfig& c) {
         c.longrope_short_factor = {1, 1.5, 2, 3};
         c.longrope_long_factor = {4, 5, 6, 7};
         c.longrope_mscale = 1.2;
       }},
      {"yarn_of_neighbouring_pairs_of_half_a_head",
       [](GPTModelConfig& c) {
         c.position_embedding_type = PositionEmbeddingType::yarn;
         c.transformer.yarn.original_max_position_embeddings = 8;
         c.transformer.rotary_interleaved = true;
         c.rotary_percent = 0.5;
       }},
      {"qk_layernorm_per_head",
       [](GPTModelConfig& c) {
         c.transformer.qk_layernorm = true;
         c.transformer.qk_layernorm_scope = QkNormScope::per_head;
         c.transformer.num_query_groups = 2;
         c.transformer.layernorm_bias = false;
       }},
      {"qk_layernorm_of_projections",
       [](GPTModelConfig& c) {
         c.transformer.qk_layernorm = true;
         c.transformer.qk_layernorm_scope = QkNormScope::projection;
         c.transformer.normalization = Normalization::RMSNorm;
         c.transformer.num_query_groups = 2;
       }},
      {"norms_around_branches",
       [](GPTModelConfig& c) { c.transformer.norm_placement = NormPlacement::around; }},
      {"norms_after_branches",
       [](GPTModelConfig& c) { c.transformer.norm_placement = NormPlacement::after; }},
      {"parallel_residual", [](GPTModelConfig& c) { c.transformer.use_parallel_residual = true; }},
      {"parallel_residual_with_one_norm",
       [](GPTModelConfig& c) {
         c.transformer.use_parallel_residual = c.transformer.share_parallel_layernorm = true;
       }},
      {"multipliers_and_caps",
       [](GPTModelConfig& c) {
         c.transformer.embedding_multiplier = 4;
         c.transformer.residual_multiplier = 0.5;
         c.transformer.logit_multiplier = 0.5;
         c.transformer.final_logit_softcapping = 2;
         c.add_output_layer_bias = true;
       }},
      {"latent", &use_latent_attention},
      {"latent_with_query_rank",
       [](GPTModelConfig& c) {
         use_latent_attention(c);
         c.transformer.mla.q_lora_rank = 12;
         c.transformer.qk_layernorm = true;
       }},
      {"latent_cached_compressed",
       [](GPTModelConfig& c) {
         use_latent_attention(c);
         c.transformer.mla.cache_mla_latents = true;
       }},
  };
  return variants;
}

}  // namespace megatron
