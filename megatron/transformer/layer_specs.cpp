#include "megatron/transformer/layer_specs.h"

#include "megatron/config/model/norm_keys.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {
namespace {

ModuleSpec module_of(const std::string& name) {
  return {.module = name};
}

// Of queries and keys by head.
ModuleSpec head_norm(const TransformerConfig& config, const SpecBackend& backend) {
  if (config.qk_l2_norm) return module_of("L2Norm");
  return config.qk_layernorm ? module_of(backend.norm) : ModuleSpec{};
}

// The linear layer after a norm: with the norm fused where the backend can.
ModuleSpec linear_after_norm(const SpecBackend& backend) {
  return module_of(backend.norm_column_linear.empty() ? backend.column_linear
                                                      : backend.norm_column_linear);
}

ModuleSpec norm_before_linear(const SpecBackend& backend) {
  return backend.norm_column_linear.empty() ? module_of(backend.norm) : ModuleSpec{};
}

ModuleSpec self_attention_spec(const TransformerConfig& config, const SpecBackend& backend,
                               const std::string& attn_mask_type) {
  return {.module = "SelfAttention",
          .params = {{"attn_mask_type", attn_mask_type}},
          .submodules = {{"linear_qkv", linear_after_norm(backend)},
                         {"core_attention", module_of(backend.core_attention)},
                         {"linear_proj", module_of(backend.row_linear)},
                         {"q_layernorm", head_norm(config, backend)},
                         {"k_layernorm", head_norm(config, backend)}}};
}

ModuleSpec latent_attention_spec(const TransformerConfig& config, const SpecBackend& backend,
                                 const std::string& attn_mask_type) {
  const bool normalizes = config.qk_layernorm;
  const ModuleSpec up_projection =
      normalizes ? linear_after_norm(backend) : module_of(backend.column_linear);
  const ModuleSpec latent_norm = normalizes ? norm_before_linear(backend) : ModuleSpec{};
  return {.module = "MLASelfAttention",
          .params = {{"attn_mask_type", attn_mask_type}},
          .submodules = {{"linear_q_proj", module_of(backend.column_linear)},
                         {"linear_q_down_proj", module_of(backend.replicated_linear)},
                         {"linear_q_up_proj", up_projection},
                         {"linear_kv_down_proj", module_of(backend.replicated_linear)},
                         {"linear_kv_up_proj", up_projection},
                         {"core_attention", module_of(backend.core_attention)},
                         {"linear_proj", module_of(backend.row_linear)},
                         {"q_layernorm", latent_norm},
                         {"kv_layernorm", latent_norm}}};
}

}  // namespace

SpecBackend local_backend(const TransformerConfig& config) {
  return {.norm = config.normalization == Normalization::RMSNorm ? "WrappedTorchNorm"
                                                                 : "FusedLayerNorm",
          .column_linear = "ColumnParallelLinear",
          .row_linear = "RowParallelLinear",
          .replicated_linear = "ReplicatedLinear",
          .norm_column_linear = "",
          .core_attention = "DotProductAttention"};
}

SpecBackend transformer_engine_backend() {
  return {.norm = "TENorm",
          .column_linear = "TEColumnParallelLinear",
          .row_linear = "TERowParallelLinear",
          .replicated_linear = "TELinear",
          .norm_column_linear = "TELayerNormColumnParallelLinear",
          .core_attention = "TEDotProductAttention"};
}

SpecBackend modelopt_backend() {
  return {.norm = "Norm",
          .column_linear = "ColumnParallelLinear",
          .row_linear = "RowParallelLinear",
          .replicated_linear = "ReplicatedLinear",
          .norm_column_linear = "",
          .core_attention = "TEDotProductAttention"};
}

ModuleSpec transformer_layer_spec(const TransformerConfig& config, const SpecBackend& backend,
                                  const std::string& attn_mask_type) {
  const bool latent = config.mla.multi_latent_attention;
  ModuleSpec layer{
      .module = "TransformerLayer",
      .submodules = {
          // MLA has two projections of the normalized input.
          {"input_layernorm", latent ? module_of(backend.norm) : norm_before_linear(backend)},
          {"self_attention", latent ? latent_attention_spec(config, backend, attn_mask_type)
                                    : self_attention_spec(config, backend, attn_mask_type)},
          {"self_attn_bda", module_of(kBiasDropoutAdd)},
          {"pre_mlp_layernorm", norm_before_linear(backend)},
          {"mlp",
           {.module = "MLP",
            .submodules = {{"linear_fc1", linear_after_norm(backend)},
                           {"linear_fc2", module_of(backend.row_linear)}}}},
          {"mlp_bda", module_of(kBiasDropoutAdd)}}};
  if (backend.norm_column_linear.empty())
    layer.sharded_state_dict_keys_map = fused_norm_keys_map(latent);
  return layer;
}

ModuleSpec multi_token_prediction_layer_spec(const ModuleSpec& layer, const SpecBackend& backend) {
  return {.module = "MultiTokenPredictionLayer",
          .submodules = {{"enorm", module_of(backend.norm)},
                         {"hnorm", module_of(backend.norm)},
                         {"eh_proj", module_of(backend.column_linear)},
                         {"mtp_model_layer", layer},
                         {"layer_norm", module_of(backend.norm)}}};
}

}  // namespace megatron
