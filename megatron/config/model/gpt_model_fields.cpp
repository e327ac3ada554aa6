// The names of the fields of TransformerConfig and GPTModelConfig: those of Megatron-Bridge.
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/config/model/config_fields.h"
#include "megatron/config/model/gpt_model_config.h"

namespace megatron {
namespace {

using Fields = std::vector<ConfigField>;

void append(Fields& fields, Fields more) {
  for (ConfigField& field : more) fields.push_back(std::move(field));
}

Fields yarn_fields(YarnConfig& c, const std::string& prefix) {
  return {{prefix + "rotary_scaling_factor", field_value(c.rotary_scaling_factor)},
          {prefix + "original_max_position_embeddings",
           field_value(c.original_max_position_embeddings)},
          {prefix + "beta_fast", field_value(c.beta_fast)},
          {prefix + "beta_slow", field_value(c.beta_slow)},
          {prefix + "mscale", field_value(c.mscale)},
          {prefix + "mscale_all_dim", field_value(c.mscale_all_dim)},
          {prefix + "correction_range_round_to_int", field_value(c.correction_range_round_to_int)}};
}

#define MEGATRON_FIELD(name) \
  { #name, field_value(c.name) }

Fields layout_fields(TransformerConfig& c) {
  return {MEGATRON_FIELD(tensor_model_parallel_size),
          MEGATRON_FIELD(pipeline_model_parallel_size),
          MEGATRON_FIELD(context_parallel_size),
          MEGATRON_FIELD(expert_model_parallel_size),
          MEGATRON_FIELD(sequence_parallel),
          MEGATRON_FIELD(tp_comm_overlap),
          MEGATRON_FIELD(cp_comm_type),
          MEGATRON_FIELD(defer_embedding_wgrad_compute),
          MEGATRON_FIELD(wgrad_deferral_limit),
          MEGATRON_FIELD(bf16),
          MEGATRON_FIELD(fp16),
          MEGATRON_FIELD(params_dtype),
          MEGATRON_FIELD(pipeline_dtype),
          MEGATRON_FIELD(perform_initialization)};
}

Fields pipeline_fields(PipelineConfig& c) {
  return {MEGATRON_FIELD(virtual_pipeline_model_parallel_size),
          MEGATRON_FIELD(num_layers_per_virtual_pipeline_stage),
          MEGATRON_FIELD(microbatch_group_size_per_vp_stage),
          MEGATRON_FIELD(num_layers_in_first_pipeline_stage),
          MEGATRON_FIELD(num_layers_in_last_pipeline_stage),
          MEGATRON_FIELD(account_for_embedding_in_pipeline_split),
          MEGATRON_FIELD(account_for_loss_in_pipeline_split),
          MEGATRON_FIELD(pipeline_model_parallel_layout),
          MEGATRON_FIELD(variable_seq_lengths),
          MEGATRON_FIELD(overlap_p2p_comm),
          MEGATRON_FIELD(deallocate_pipeline_outputs)};
}

Fields architecture_fields(TransformerConfig& c) {
  return {MEGATRON_FIELD(transformer_impl),
          MEGATRON_FIELD(num_layers),
          MEGATRON_FIELD(hidden_size),
          MEGATRON_FIELD(num_attention_heads),
          MEGATRON_FIELD(num_query_groups),
          MEGATRON_FIELD(kv_channels),
          MEGATRON_FIELD(ffn_hidden_size),
          MEGATRON_FIELD(normalization),
          MEGATRON_FIELD(layernorm_epsilon),
          MEGATRON_FIELD(activation_func),
          MEGATRON_FIELD(gated_linear_unit),
          MEGATRON_FIELD(bias_activation_fusion),
          MEGATRON_FIELD(add_bias_linear),
          MEGATRON_FIELD(add_proj_bias),
          MEGATRON_FIELD(add_mlp_bias),
          MEGATRON_FIELD(layernorm_zero_centered_gamma),
          MEGATRON_FIELD(layernorm_bias),
          MEGATRON_FIELD(norm_placement),
          MEGATRON_FIELD(use_parallel_residual),
          MEGATRON_FIELD(share_parallel_layernorm),
          MEGATRON_FIELD(glu_linear_offset),
          MEGATRON_FIELD(activation_func_clamp_value),
          MEGATRON_FIELD(apply_residual_connection_post_layernorm),
          MEGATRON_FIELD(fp32_residual_connection),
          MEGATRON_FIELD(hidden_dropout),
          MEGATRON_FIELD(embedding_multiplier),
          MEGATRON_FIELD(residual_multiplier),
          MEGATRON_FIELD(logit_multiplier),
          MEGATRON_FIELD(final_logit_softcapping),
          MEGATRON_FIELD(init_method_std),
          MEGATRON_FIELD(embedding_init_method_std),
          MEGATRON_FIELD(calculate_per_token_loss),
          MEGATRON_FIELD(cross_entropy_loss_fusion),
          MEGATRON_FIELD(cross_entropy_fusion_impl),
          MEGATRON_FIELD(label_smoothing),
          MEGATRON_FIELD(cuda_graph_impl)};
}

Fields attention_fields(TransformerConfig& c) {
  return {MEGATRON_FIELD(attention_backend),
          MEGATRON_FIELD(add_qkv_bias),
          MEGATRON_FIELD(rotary_interleaved),
          MEGATRON_FIELD(mrope_section),
          MEGATRON_FIELD(no_rope_freq),
          MEGATRON_FIELD(softmax_scale),
          MEGATRON_FIELD(apply_query_key_layer_scaling),
          MEGATRON_FIELD(softmax_type),
          MEGATRON_FIELD(attn_logit_softcapping),
          MEGATRON_FIELD(window_size),
          MEGATRON_FIELD(window_attn_skip_freq),
          MEGATRON_FIELD(qk_layernorm),
          MEGATRON_FIELD(qk_layernorm_scope),
          MEGATRON_FIELD(qk_l2_norm),
          MEGATRON_FIELD(attention_output_gate),
          MEGATRON_FIELD(qk_clip),
          MEGATRON_FIELD(qk_clip_alpha),
          MEGATRON_FIELD(qk_clip_threshold),
          MEGATRON_FIELD(attention_dropout)};
}

Fields low_precision_fields(LowPrecisionConfig& c) {
  return {MEGATRON_FIELD(fp8),
          MEGATRON_FIELD(fp8_recipe),
          MEGATRON_FIELD(fp8_margin),
          MEGATRON_FIELD(fp8_amax_history_len),
          MEGATRON_FIELD(fp8_amax_compute_algo),
          MEGATRON_FIELD(first_last_layers_bf16),
          MEGATRON_FIELD(num_layers_at_start_in_bf16),
          MEGATRON_FIELD(num_layers_at_end_in_bf16)};
}

Fields latent_fields(MultiLatentAttentionConfig& c) {
  Fields fields = {MEGATRON_FIELD(multi_latent_attention),
                   MEGATRON_FIELD(q_lora_rank),
                   MEGATRON_FIELD(kv_lora_rank),
                   MEGATRON_FIELD(qk_head_dim),
                   MEGATRON_FIELD(qk_pos_emb_head_dim),
                   MEGATRON_FIELD(v_head_dim),
                   MEGATRON_FIELD(rope_type),
                   MEGATRON_FIELD(cache_mla_latents)};
  append(fields, yarn_fields(c.yarn, ""));
  return fields;
}

Fields prediction_fields(MultiTokenPredictionConfig& c) {
  return {MEGATRON_FIELD(mtp_num_layers), MEGATRON_FIELD(mtp_loss_scaling_factor),
          MEGATRON_FIELD(mtp_use_repeated_layer), MEGATRON_FIELD(mtp_detach_heads)};
}

Fields expert_fields(MoeConfig& c) {
  return {MEGATRON_FIELD(num_moe_experts),
          MEGATRON_FIELD(moe_layer_freq),
          MEGATRON_FIELD(moe_ffn_hidden_size),
          MEGATRON_FIELD(moe_shared_expert_intermediate_size),
          MEGATRON_FIELD(moe_shared_expert_gate),
          MEGATRON_FIELD(moe_shared_expert_overlap),
          MEGATRON_FIELD(moe_router_topk),
          MEGATRON_FIELD(moe_router_pre_softmax),
          MEGATRON_FIELD(moe_router_topk_scaling_factor),
          MEGATRON_FIELD(moe_router_score_function),
          MEGATRON_FIELD(moe_router_dtype),
          MEGATRON_FIELD(moe_router_num_groups),
          MEGATRON_FIELD(moe_router_group_topk),
          MEGATRON_FIELD(moe_router_enable_expert_bias),
          MEGATRON_FIELD(moe_router_bias_update_rate),
          MEGATRON_FIELD(moe_router_force_load_balancing),
          MEGATRON_FIELD(moe_input_jitter_eps),
          MEGATRON_FIELD(moe_router_padding_for_quantization),
          MEGATRON_FIELD(moe_router_load_balancing_type),
          MEGATRON_FIELD(moe_aux_loss_coeff),
          MEGATRON_FIELD(moe_z_loss_coeff),
          MEGATRON_FIELD(moe_token_dispatcher_type),
          MEGATRON_FIELD(moe_expert_capacity_factor),
          MEGATRON_FIELD(moe_pad_expert_input_to_capacity),
          MEGATRON_FIELD(moe_token_drop_policy),
          MEGATRON_FIELD(moe_grouped_gemm),
          MEGATRON_FIELD(moe_apply_probs_on_input),
          MEGATRON_FIELD(expert_tensor_parallel_size),
          MEGATRON_FIELD(overlap_moe_expert_parallel_comm),
          MEGATRON_FIELD(delay_wgrad_compute),
          MEGATRON_FIELD(moe_router_record),
          MEGATRON_FIELD(moe_router_replay),
          MEGATRON_FIELD(moe_use_upcycling),
          MEGATRON_FIELD(moe_upcycling_granularity)};
}

Fields recompute_fields(RecomputeConfig& c) {
  return {MEGATRON_FIELD(recompute_granularity), MEGATRON_FIELD(recompute_method),
          MEGATRON_FIELD(recompute_num_layers), MEGATRON_FIELD(recompute_modules)};
}

Fields mup_fields(MupConfig& c) {
  return {MEGATRON_FIELD(use_mup),
          MEGATRON_FIELD(mup_base_hidden_size),
          MEGATRON_FIELD(mup_embedding_mult),
          MEGATRON_FIELD(mup_output_mult),
          MEGATRON_FIELD(mup_base_head_dim),
          MEGATRON_FIELD(mup_attn_scale_power)};
}

FieldValue layer_spec_field(LayerSpecSource& source) {
  return JsonReference{&source, [&source] { return to_json(source); },
                       [&source](const nlohmann::json& json, std::string_view) {
                         source = layer_spec_source_from_json(json);
                       }};
}

nlohmann::json overlap_json(const TpCommOverlapConfig& config) {
  if (!config.is_set()) return nullptr;
  if (!config.file.empty()) return config.file;
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, entry] : config.entries) {
    nlohmann::json& members = json[name] = nlohmann::json::object();
    if (entry.method) members["method"] = *entry.method;
    if (entry.num_splits) members["num_splits"] = *entry.num_splits;
  }
  return json;
}

TpCommOverlapConfig overlap_from_json(const nlohmann::json& json, std::string_view subject) {
  TpCommOverlapConfig config;
  if (json.is_null()) return config;
  if (json.is_string()) {
    config.file = json.get<std::string>();
    return config;
  }
  check(json.is_object(), "Expected a path, an object or null for {}, but got '{}'", subject,
        json.dump());
  for (const auto& [name, members] : json.items()) {
    check(members.is_object(), "Expected an object for {} of {}, but got '{}'", name, subject,
          members.dump());
    TpOverlapEntry& entry = config.entries[name];
    for (const auto& [member, value] : members.items()) {
      const std::string path = fmt::format("{}.{}.{}", subject, name, member);
      if (member == "method") {
        set_from_json(field_value(entry.method.emplace()), value, path);
      } else if (member == "num_splits") {
        set_from_json(field_value(entry.num_splits), value, path);
      } else {
        fail("Expected method or num_splits, but got {}", path);
      }
    }
  }
  return config;
}

FieldValue overlap_field(TpCommOverlapConfig& config) {
  return JsonReference{&config, [&config] { return overlap_json(config); },
                       [&config](const nlohmann::json& json, std::string_view subject) {
                         config = overlap_from_json(json, subject);
                       }};
}

Fields gpt_fields(GPTModelConfig& c) {
  return {{"transformer_layer_spec", layer_spec_field(c.transformer_layer_spec)},
          MEGATRON_FIELD(vocab_size),
          MEGATRON_FIELD(make_vocab_size_divisible_by),
          MEGATRON_FIELD(should_pad_vocab),
          MEGATRON_FIELD(seq_length),
          MEGATRON_FIELD(max_position_embeddings),
          MEGATRON_FIELD(fp16_lm_cross_entropy),
          MEGATRON_FIELD(parallel_output),
          MEGATRON_FIELD(share_embeddings_and_output_weights),
          MEGATRON_FIELD(add_output_layer_bias),
          MEGATRON_FIELD(position_embedding_type),
          MEGATRON_FIELD(rotary_percent),
          MEGATRON_FIELD(rotary_base),
          MEGATRON_FIELD(rotary_base_local),
          MEGATRON_FIELD(rope_scaling),
          MEGATRON_FIELD(rope_scaling_factor),
          MEGATRON_FIELD(rope_scaling_low_freq_factor),
          MEGATRON_FIELD(rope_scaling_high_freq_factor),
          MEGATRON_FIELD(rope_scaling_original_max_position_embeddings),
          MEGATRON_FIELD(rope_dynamic_scaling_factor),
          MEGATRON_FIELD(longrope_short_factor),
          MEGATRON_FIELD(longrope_long_factor),
          MEGATRON_FIELD(longrope_mscale),
          MEGATRON_FIELD(scatter_embedding_sequence_parallel),
          MEGATRON_FIELD(seq_len_interpolation_factor),
          {"tp_comm_overlap_cfg", overlap_field(c.tp_comm_overlap_cfg)},
          MEGATRON_FIELD(use_transformer_engine_full_layer_spec),
          MEGATRON_FIELD(use_transformer_engine_op_fuser),
          MEGATRON_FIELD(use_arbitrary_attention_mask)};
}

#undef MEGATRON_FIELD

}  // namespace

ConfigFields fields_of(TransformerConfig& config) {
  Fields fields = layout_fields(config);
  append(fields, pipeline_fields(config.pipeline));
  append(fields, architecture_fields(config));
  append(fields, low_precision_fields(config.low_precision));
  append(fields, attention_fields(config));
  append(fields, latent_fields(config.mla));
  append(fields, yarn_fields(config.yarn, "yarn_"));
  append(fields, prediction_fields(config.mtp));
  append(fields, recompute_fields(config.recompute));
  append(fields, expert_fields(config.moe));
  append(fields, mup_fields(config.mup));
  return {.target = "megatron.bridge.models.transformer_config.TransformerConfig",
          .fields = std::move(fields),
          .nested = {}};
}

ConfigFields fields_of(GPTModelConfig& config) {
  Fields fields = base_fields(config);
  append(fields, gpt_fields(config));
  return {.target = "megatron.bridge.models.gpt.gpt_builder.GPTModelConfig",
          .fields = std::move(fields),
          .nested = {{"transformer", fields_of(config.transformer)}},
          .builder = &config.builder};
}

}  // namespace megatron
