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
  sequence_parallel = defaults.sequence_parallel;
  tp_comm_overlap = defaults.tp_comm_overlap;
  pipeline = defaults.pipeline;
  cp_comm_type = defaults.cp_comm_type;
  defer_embedding_wgrad_compute = defaults.defer_embedding_wgrad_compute;
  wgrad_deferral_limit = defaults.wgrad_deferral_limit;
}

}  // namespace megatron
