// Rotary positions: frequencies and the tables made of them (Megatron
// core/models/common/embeddings/rotary_pos_embedding.py and yarn_rotary_pos_embedding.py).
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// What queries and keys are rotated with: [s, rotary dimension], or [s, b, rotary dimension] where
// each sample has positions of its own; in the wider of fp32 and the parameters' dtype.
struct RotaryTable {
  at::Tensor cos, sin;

  bool defined() const { return cos.defined(); }
};

class RotaryEmbedding {
 public:
  // One angular frequency for each pair of features; `magnitude` multiplies sine and cosine.
  RotaryEmbedding(std::vector<double> frequencies, bool interleaved, double magnitude = 1.0)
      : frequencies_(std::move(frequencies)), interleaved_(interleaved), magnitude_(magnitude) {}

  // positions, fractions allowed: [s] -> tables [s, 2 x frequencies]; [b, s] -> [s, b, ...].
  RotaryTable table(const at::Tensor& positions, at::ScalarType dtype, at::Device device) const;

  // Positions along several axes (mrope): [axes, b, s] -> [s, b, ...]. The frequencies are shared
  // out in `sections` that follow one axis each, in turn.
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

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
std::vector<double> llama3_rescaled(std::vector<double> frequencies, double factor);

// YaRN (Peng et al., 2023): frequencies that turn less than beta_slow times over the original
// context are divided by the factor, those beyond beta_fast kept, a ramp between.
std::vector<double> yarn_frequencies(int64_t dim, double base, const YarnConfig& yarn);

// 0.1 mscale ln(factor) + 1, 1 where the factor is at most 1.
double yarn_mscale(double factor, double mscale);

// What YaRN multiplies sine and cosine with: mscale's growth over that of mscale_all_dim.
double yarn_concentration(const YarnConfig& yarn);

}  // namespace megatron
