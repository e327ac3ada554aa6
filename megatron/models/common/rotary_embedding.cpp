#include "megatron/models/common/rotary_embedding.h"

#include <cmath>
#include <numbers>

#include <ATen/ATen.h>

namespace megatron {
namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
// The constants are fixed in Megatron: low 1, high 4, original length 8192.
double llama3_rescaled(double frequency, double factor) {
  constexpr double low = 1, high = 4, original_length = 8192;
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength > original_length / low) return frequency / factor;
  if (wavelength < original_length / high) return frequency;
  const double smooth = (original_length / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const GPTModelConfig& config)
    : position_scale_(1.0 / config.seq_len_interpolation_factor.value_or(1.0)),
      interleaved_(config.transformer.rotary_interleaved) {
  const auto dim = static_cast<int64_t>(config.transformer.head_dim() * config.rotary_percent);
  for (int64_t i = 0; i < dim; i += 2) {
    const double frequency =
        std::pow(config.rotary_base, -static_cast<double>(i) / static_cast<double>(dim));
    inverse_frequencies_.push_back(
        config.rope_scaling ? llama3_rescaled(frequency, config.rope_scaling_factor) : frequency);
  }
}

RotaryTable RotaryEmbedding::table(int64_t first, int64_t length, at::ScalarType dtype,
                                   at::Device device) const {
  const at::Tensor positions = at::arange(first, first + length, at::kDouble) * position_scale_;
  const at::Tensor angles = at::outer(positions, at::tensor(inverse_frequencies_, at::kDouble));
  // Each angle serves a pair: i and i + dim / 2, or the neighbours 2i and 2i + 1 when interleaved.
  const at::Tensor paired = interleaved_ ? at::repeat_interleave(angles, 2, /*dim=*/1)
                                         : at::cat({angles, angles}, /*dim=*/1);
  return {paired.cos().to(device, dtype), paired.sin().to(device, dtype)};
}

}  // namespace megatron
