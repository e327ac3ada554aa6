#include "megatron/config/model/transformer_config.h"

#include <algorithm>

namespace megatron {
namespace {

// Megatron's two ways to choose layers: one number N names every Nth layer, a list says it layer by
// layer.
bool is_chosen(const std::vector<int64_t>& pattern, int64_t layer_number) {
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
  return !is_chosen(no_rope_freq, layer_number);
}

bool TransformerConfig::has_window(int64_t layer_number) const {
  if (window_size.empty()) return false;
  if (window_attn_skip_freq.empty()) return true;
  const bool chosen = is_chosen(window_attn_skip_freq, layer_number);
  return window_attn_skip_freq.size() == 1 ? !chosen : chosen;
}

}  // namespace megatron
