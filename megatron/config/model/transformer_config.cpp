#include "megatron/config/model/transformer_config.h"

#include <algorithm>

namespace megatron {
namespace {

// Megatron's two forms of a layer pattern: {N} selects every Nth layer, a longer list has one entry
// per layer.
bool selects_layer(const std::vector<int64_t>& pattern, int64_t layer_number) {
  if (pattern.size() == 1) return pattern[0] > 0 && layer_number % pattern[0] == 0;
  return !pattern.empty() && pattern.at(layer_number - 1) != 0;
}

}  // namespace

bool RecomputeConfig::selects(std::string_view module) const {
  if (recompute_granularity != RecomputeGranularity::selective) return false;
  if (recompute_modules.empty()) return module == "core_attn";
  return std::ranges::find(recompute_modules, module) != recompute_modules.end();
}

bool TransformerConfig::has_low_precision(int64_t layer_number) const {
  const LowPrecisionConfig& c = low_precision;
  if (!c.is_used() || !c.first_last_layers_bf16) return c.is_used();
  return layer_number > c.num_layers_at_start_in_bf16 &&
         layer_number <= num_layers - c.num_layers_at_end_in_bf16;
}

bool MoeConfig::is_moe_layer(int64_t layer_number) const {
  if (!has_experts()) return false;
  if (moe_layer_freq.size() != 1) return moe_layer_freq.at(layer_number - 1) != 0;
  return moe_layer_freq[0] > 0 && (layer_number - 1) % moe_layer_freq[0] == 0;
}

bool MoeConfig::balances_by(std::string_view type) const {
  return std::ranges::find(moe_router_load_balancing_type, type) !=
         moe_router_load_balancing_type.end();
}

double MoeConfig::aux_loss_coeff(std::string_view type) const {
  for (size_t i = 0; i < moe_router_load_balancing_type.size(); ++i) {
    if (moe_router_load_balancing_type[i] == type)
      return moe_aux_loss_coeff.size() == 1 ? moe_aux_loss_coeff[0] : moe_aux_loss_coeff.at(i);
  }
  return 0;
}

bool MoeConfig::has_aux_loss() const {
  return std::ranges::any_of(moe_router_load_balancing_type,
                             [this](const std::string& type) { return aux_loss_coeff(type) != 0; });
}

bool TransformerConfig::has_dense_layer() const {
  if (!moe.has_experts()) return true;
  for (int64_t number = 1; number <= num_layers; ++number) {
    if (!moe.is_moe_layer(number)) return true;
  }
  return false;
}

bool TransformerConfig::has_rope(int64_t layer_number) const {
  return !selects_layer(no_rope_freq, layer_number);
}

bool TransformerConfig::has_window(int64_t layer_number) const {
  if (window_size.empty()) return false;
  if (window_attn_skip_freq.empty()) return true;
  const bool selected = selects_layer(window_attn_skip_freq, layer_number);
  return window_attn_skip_freq.size() == 1 ? !selected : selected;
}

void TransformerConfig::reset_layout() {
  const TransformerConfig defaults;
  tensor_model_parallel_size = defaults.tensor_model_parallel_size;
  pipeline_model_parallel_size = defaults.pipeline_model_parallel_size;
  context_parallel_size = defaults.context_parallel_size;
  expert_model_parallel_size = defaults.expert_model_parallel_size;
  moe.expert_tensor_parallel_size = defaults.moe.expert_tensor_parallel_size;
  moe.overlap_moe_expert_parallel_comm = defaults.moe.overlap_moe_expert_parallel_comm;
  moe.delay_wgrad_compute = defaults.moe.delay_wgrad_compute;
  sequence_parallel = defaults.sequence_parallel;
  tp_comm_overlap = defaults.tp_comm_overlap;
  pipeline = defaults.pipeline;
  cp_comm_type = defaults.cp_comm_type;
  defer_embedding_wgrad_compute = defaults.defer_embedding_wgrad_compute;
  wgrad_deferral_limit = defaults.wgrad_deferral_limit;
}

}  // namespace megatron
