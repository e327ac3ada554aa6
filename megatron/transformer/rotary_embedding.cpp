#include "megatron/transformer/rotary_embedding.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

RotaryTable RotaryEmbedding::from_angles(const at::Tensor& angles, at::ScalarType dtype,
                                         at::Device device) const {
  // Each angle rotates a pair of features: i and i + dim / 2, or 2i and 2i + 1 when interleaved.
  const at::Tensor paired = interleaved_ ? at::repeat_interleave(angles, 2, /*dim=*/-1)
                                         : at::cat({angles, angles}, /*dim=*/-1);
  return {(paired.cos() * magnitude_).to(device, dtype),
          (paired.sin() * magnitude_).to(device, dtype)};
}

RotaryTable RotaryEmbedding::table(const at::Tensor& positions, at::ScalarType dtype,
                                   at::Device device) const {
  check(positions.dim() == 1 || positions.dim() == 2,
        "Expected positions of shape [s] or [b, s] for rotary tables, but got {}",
        positions.sizes().vec());
  const at::Tensor by_sequence = positions.dim() == 2 ? positions.transpose(0, 1) : positions;
  const at::Tensor frequencies = at::tensor(frequencies_, at::kDouble);
  return from_angles(by_sequence.cpu().to(at::kDouble).unsqueeze(-1) * frequencies, dtype, device);
}

RotaryTable RotaryEmbedding::table(const at::Tensor& positions,
                                   const std::vector<int64_t>& sections, at::ScalarType dtype,
                                   at::Device device) const {
  const auto axes = static_cast<int64_t>(sections.size());
  check(positions.dim() == 3 && positions.size(0) == axes,
        "Expected position ids of shape [{}, b, s] with mrope, but got {}", axes,
        positions.sizes().vec());
  const at::Tensor frequencies = at::tensor(frequencies_, at::kDouble);
  const at::Tensor angles =
      positions.cpu().to(at::kDouble).transpose(1, 2).unsqueeze(-1) * frequencies;
  const auto by_axis = at::split_with_sizes(angles, sections, /*dim=*/-1);
  std::vector<at::Tensor> selected;
  for (int64_t axis = 0; axis < axes; ++axis) selected.push_back(by_axis[axis][axis]);
  return from_angles(at::cat(selected, -1), dtype, device);
}

std::vector<double> rope_frequencies(int64_t dim, double base) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < dim; i += 2) {
    frequencies.push_back(std::pow(base, -static_cast<double>(i) / static_cast<double>(dim)));
  }
  return frequencies;
}

std::vector<double> llama3_rescaled(std::vector<double> frequencies, const Llama3Scaling& scaling) {
  const double low = scaling.low_freq_factor, high = scaling.high_freq_factor;
  const auto original_length = static_cast<double>(scaling.original_length);
  for (double& frequency : frequencies) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    const double smooth = std::clamp((original_length / wavelength - low) / (high - low), 0.0, 1.0);
    frequency = (1 - smooth) * frequency / scaling.factor + smooth * frequency;
  }
  return frequencies;
}

double dynamic_rope_base(int64_t dim, double base, double factor, int64_t length,
                         int64_t original_length) {
  if (length <= original_length || dim <= 2) return base;
  const auto features = static_cast<double>(dim);
  const double growth =
      factor * static_cast<double>(length) / static_cast<double>(original_length) - (factor - 1);
  return base * std::pow(growth, features / (features - 2));
}

std::vector<double> yarn_frequencies(int64_t dim, double base, const YarnConfig& yarn) {
  // Index of the pair with this many rotations over the original context.
  const auto pair_of = [&](double rotations) {
    return static_cast<double>(dim) *
           std::log(yarn.original_max_position_embeddings / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(base));
  };
  double first = pair_of(yarn.beta_fast), last = pair_of(yarn.beta_slow);
  if (yarn.correction_range_round_to_int) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, static_cast<double>(dim - 1));
  if (first == last) last += 0.001;
  std::vector<double> frequencies = rope_frequencies(dim, base);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double interpolated =
        std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    frequencies[i] *= interpolated / yarn.rotary_scaling_factor + (1 - interpolated);
  }
  return frequencies;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_concentration(const YarnConfig& yarn) {
  return yarn_mscale(yarn.rotary_scaling_factor, yarn.mscale) /
         yarn_mscale(yarn.rotary_scaling_factor, yarn.mscale_all_dim);
}

}  // namespace megatron
