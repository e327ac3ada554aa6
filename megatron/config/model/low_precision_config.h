// FP8 of the linear layers, with the names of Megatron's TransformerConfig.
#pragma once

#include <cstdint>
#include <optional>

namespace megatron {

// `hybrid` is e4m3 for activations and weights, e5m2 for gradients.
enum class Fp8Format { e4m3, hybrid };
// How FP8 scales follow from the values: see docs/low_precision.md.
enum class Fp8Recipe { delayed, tensorwise, blockwise, mxfp8 };
// The amax of the last step, or the largest of the history.
enum class AmaxComputeAlgo { most_recent, max };

struct LowPrecisionConfig {
  std::optional<Fp8Format> fp8;  // not set: no FP8
  Fp8Recipe fp8_recipe = Fp8Recipe::delayed;
  int64_t fp8_margin = 0;            // delayed: scales are multiplied by 2^-margin
  int64_t fp8_amax_history_len = 1;  // delayed: steps
  AmaxComputeAlgo fp8_amax_compute_algo = AmaxComputeAlgo::most_recent;
  bool first_last_layers_bf16 = false;  // keeps these in high precision:
  int64_t num_layers_at_start_in_bf16 = 1;
  int64_t num_layers_at_end_in_bf16 = 1;

  bool is_used() const { return fp8.has_value(); }
};

}  // namespace megatron
