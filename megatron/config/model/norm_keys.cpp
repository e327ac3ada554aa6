#include "megatron/config/model/norm_keys.h"

#include <array>

namespace megatron {
namespace {

struct NormKey {
  const char* standalone;
  const char* fused;
  bool grouped, latent;  // of layers with which attention
};

constexpr std::array<NormKey, 4> kNormKeys = {{
    {"input_layernorm.", "self_attention.linear_qkv.layer_norm_", true, false},
    {"pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_", true, true},
    {"self_attention.q_layernorm.", "self_attention.linear_q_up_proj.layer_norm_", false, true},
    {"self_attention.kv_layernorm.", "self_attention.linear_kv_up_proj.layer_norm_", false, true},
}};

}  // namespace

std::map<std::string, std::string> fused_norm_keys_map(bool multi_latent_attention,
                                                       bool has_experts) {
  std::map<std::string, std::string> map;
  for (const NormKey& key : kNormKeys) {
    const bool is_of_layer = multi_latent_attention ? key.latent : key.grouped;
    const bool is_before_experts =
        has_experts && key.standalone == std::string("pre_mlp_layernorm.");
    if (is_of_layer && !is_before_experts) map.emplace(key.standalone, key.fused);
  }
  return map;
}

std::map<std::string, std::string> branch_norm_keys_map() {
  return {{"post_self_attn_layernorm.", "self_attention.linear_proj.post_layernorm."},
          {"post_mlp_layernorm.", "mlp.linear_fc2.post_layernorm."}};
}

std::optional<std::string> standalone_norm_name(const std::string& name) {
  for (const NormKey& key : kNormKeys) {
    const std::string fused = key.fused;
    const size_t position = name.find(fused);
    if (position == std::string::npos) continue;
    return std::string(name).replace(position, fused.size(), key.standalone);
  }
  return std::nullopt;
}

}  // namespace megatron
