// Rotary position embedding: frequencies, and tables of cosines and sines (Megatron
// core/models/common/embeddings/rotary_pos_embedding.py and yarn_rotary_pos_embedding.py).
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// Cosines and sines [s, rotary dimension], or [s, b, rotary dimension] where positions differ
// between samples, in the wider of fp32 and the parameters' dtype.
struct RotaryTable {
  at::Tensor cos, sin;

  bool defined() const { return cos.defined(); }
};

class RotaryEmbedding {
 public:
  // One angular frequency per pair of features; `magnitude` scales cosine and sine.
  RotaryEmbedding(std::vector<double> frequencies, bool interleaved, double magnitude = 1.0)
      : frequencies_(std::move(frequencies)), interleaved_(interleaved), magnitude_(magnitude) {}

  // positions (may be fractional) [s] -> tables [s, 2 x frequencies]; [b, s] -> [s, b, ...].
  RotaryTable table(const at::Tensor& positions, at::ScalarType dtype, at::Device device) const;

  // Positions along several axes (mrope): [axes, b, s] -> [s, b, ...]. The first sections[0]
  // frequencies rotate by axis 0, the next sections[1] by axis 1, and so on.
  RotaryTable table(const at::Tensor& positions, const std::vector<int64_t>& sections,
                    at::ScalarType dtype, at::Device device) const;

 private:
  // angles [..., frequencies] in double.
  RotaryTable from_angles(const at::Tensor& angles, at::ScalarType dtype, at::Device device) const;

  std::vector<double> frequencies_;
  bool interleaved_;
  double magnitude_;
};

// base^(-2i / dim), i < dim / 2.
std::vector<double> rope_frequencies(int64_t dim, double base);

// Llama 3.1's scaling: wavelengths above original_length / low_freq_factor are scaled by `factor`,
// those below original_length / high_freq_factor kept, with a smooth ramp between.
struct Llama3Scaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_length = 8192;
};
std::vector<double> llama3_rescaled(std::vector<double> frequencies, const Llama3Scaling& scaling);

// NTK-aware scaling of the base for sequences of `length` positions, so that the lowest frequency
// spans `factor` times the length beyond the original one (transformers' "dynamic").
double dynamic_rope_base(int64_t dim, double base, double factor, int64_t length,
                         int64_t original_length);

// YaRN (Peng et al., 2023): frequencies with fewer than beta_slow rotations over the original
// context are divided by the scaling factor, those above beta_fast kept, with a linear ramp
// between.
std::vector<double> yarn_frequencies(int64_t dim, double base, const YarnConfig& yarn);

// 0.1 mscale ln(factor) + 1 for factor > 1, else 1.
double yarn_mscale(double factor, double mscale);

// YaRN's scale of cosine and sine: yarn_mscale for mscale over yarn_mscale for mscale_all_dim.
double yarn_concentration(const YarnConfig& yarn);

}  // namespace megatron
