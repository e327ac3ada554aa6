// Names of the norms' parameters. In checkpoints, and wherever parameters have names, a norm's
// parameters are those of the linear layer that consumes it, whether the layer fuses the two or
// not: `self_attention.linear_qkv.layer_norm_weight`, not `input_layernorm.weight`.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace megatron {

// Prefixes inside a layer with standalone norms, and what replaces them. In a layer with
// multi-latent attention the input norm keeps its name, as two layers consume it.
// So does the norm before experts.
std::map<std::string, std::string> fused_norm_keys_map(bool multi_latent_attention,
                                                       bool has_experts = false);

// The same for the norms of branches (NormPlacement::after and around), which Megatron-Bridge puts
// into the linear layer whose output they normalize: `mlp.linear_fc2.post_layernorm.weight`.
std::map<std::string, std::string> branch_norm_keys_map();

// The name of a standalone norm for a name that contains one of a fused norm, as megatron-core's
// local layers have it and as this program wrote it before version 0.2; nullopt for other names.
std::optional<std::string> standalone_norm_name(const std::string& name);

}  // namespace megatron
