// Rotary position tables (Megatron core/models/common/embeddings/rotary_pos_embedding.py).
#pragma once

#include "megatron/config/gpt_model_config.h"
#include "megatron/transformer/rotary.h"

namespace megatron {

class RotaryEmbedding {
 public:
  // inv_freq_i = base^(-2i / dim) for dim = int(kv_channels * rotary_percent), rescaled as
  // Llama 3.1 does with `rope_scaling`.
  explicit RotaryEmbedding(const GPTModelConfig& config);

  // The table of the positions [first, first + length), in `dtype` (the wider of fp32 and the
  // model's).
  RotaryTable table(int64_t first, int64_t length, at::ScalarType dtype, at::Device device) const;

 private:
  std::vector<double> inverse_frequencies_;
  double position_scale_;  // 1 / seq_len_interpolation_factor
  bool interleaved_;
};

}  // namespace megatron
