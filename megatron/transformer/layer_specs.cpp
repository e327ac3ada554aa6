#include "megatron/transformer/layer_specs.h"

#include "megatron/config/model/norm_keys.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {
namespace {

ModuleSpec module_of(const std::string& name) {
  return {.module = name};
}

// Of queries and keys.
ModuleSpec head_norm(const TransformerConfig& config, const SpecBackend& backend) {
  if (config.qk_l2_norm) return module_of("L2Norm");
  if (!config.qk_layernorm) return {};
  return module_of(config.qk_layernorm_scope == QkNormScope::head ? backend.norm : "HeadsNorm");
}

// Whether the norms of the branches' inputs are fused into the linear layers that consume them.
// Two layers consume a shared norm.
bool fuses_branch_norms(const TransformerConfig& config, const SpecBackend& backend) {
  return !backend.norm_column_linear.empty() && config.has_norms_before() &&
         !config.share_parallel_layernorm;
}

// The first linear layer of a branch, and the norm before it if it is not fused.
ModuleSpec branch_linear(const TransformerConfig& config, const SpecBackend& backend) {
  return module_of(fuses_branch_norms(config, backend) ? backend.norm_column_linear
                                                       : backend.column_linear);
}

// The norm before a branch whose input several modules read.
ModuleSpec standalone_norm(const TransformerConfig& config, const SpecBackend& backend) {
  return config.has_norms_before() ? module_of(backend.norm) : ModuleSpec{};
}

ModuleSpec branch_norm(const TransformerConfig& config, const SpecBackend& backend) {
  return fuses_branch_norms(config, backend) ? ModuleSpec{} : standalone_norm(config, backend);
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
          .submodules = {{"linear_qkv", branch_linear(config, backend)},
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

// Router, experts and shared experts in the MLP slot. The experts' linears are part of their operator.
ModuleSpec moe_spec(const TransformerConfig& config, const SpecBackend& backend) {
  const MoeConfig& moe = config.moe;
  ModuleSpec spec{
      .module = "MoELayer",
      .submodules = {{"router", module_of("TopKRouter")},
                     {"experts", module_of(moe.moe_grouped_gemm && backend.grouped_experts
                                               ? "TEGroupedMLP"
                                               : "SequentialMLP")}}};
  if (moe.moe_shared_expert_intermediate_size) {
    spec.submodules["shared_experts"] = {
        .module = "SharedExpertMLP",
        .submodules = {{"linear_fc1", module_of(backend.column_linear)},
                       {"linear_fc2", module_of(backend.row_linear)}}};
  }
  return spec;
}

ModuleSpec mlp_spec(const TransformerConfig& config, const SpecBackend& backend) {
  return {.module = "MLP",
          .submodules = {{"linear_fc1", branch_linear(config, backend)},
                         {"linear_fc2", module_of(backend.row_linear)}}};
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
          .core_attention = "TEDotProductAttention",
          .grouped_experts = false};
}

ModuleSpec transformer_layer_spec(const TransformerConfig& config, const SpecBackend& backend,
                                  const std::string& attn_mask_type, bool has_experts) {
  const bool latent = config.mla.multi_latent_attention;
  const auto norm_before = [&](bool has_several_readers) {
    return has_several_readers ? standalone_norm(config, backend) : branch_norm(config, backend);
  };
  // MLA has two projections of its input; router, experts and shared experts read theirs.
  const ModuleSpec input_norm = norm_before(latent);
  const ModuleSpec mlp_norm =
      config.share_parallel_layernorm ? ModuleSpec{} : norm_before(has_experts);
  ModuleSpec layer{
      .module = "TransformerLayer",
      .submodules = {
          {"input_layernorm", input_norm},
          {"self_attention", latent ? latent_attention_spec(config, backend, attn_mask_type)
                                    : self_attention_spec(config, backend, attn_mask_type)},
          {"self_attn_bda", module_of(kBiasDropoutAdd)},
          {"pre_mlp_layernorm", mlp_norm},
          {"mlp", has_experts ? moe_spec(config, backend) : mlp_spec(config, backend)},
          {"mlp_bda", module_of(kBiasDropoutAdd)}}};
  if (backend.norm_column_linear.empty())
    layer.sharded_state_dict_keys_map = fused_norm_keys_map(latent, has_experts);
  // A shared norm belongs to no linear layer, with either backend.
  if (config.share_parallel_layernorm) layer.sharded_state_dict_keys_map.erase("input_layernorm.");
  // Layers with norms after the branches only have none to rename before them.
  std::erase_if(layer.sharded_state_dict_keys_map, [&](const auto& entry) {
    return layer.at(entry.first.substr(0, entry.first.size() - 1)).is_identity();
  });
  if (config.has_norms_after()) {
    for (const char* slot : {"post_self_attn_layernorm", "post_mlp_layernorm"})
      layer.submodules[slot] = module_of(backend.norm);
    layer.sharded_state_dict_keys_map.merge(branch_norm_keys_map());
  }
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
