// The rotary embedding of a model.
#pragma once

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/transformer/layer_input.h"

namespace megatron {

// Shared by all layers of a model: position embedding types rope, yarn and mrope, or rope and yarn
// of multi-latent attention.
class ModelRotaryEmbedding {
 public:
  // Null if the model has no rotary positions.
  static std::unique_ptr<ModelRotaryEmbedding> make(const GPTModelConfig& config);

  // Table for tokens at the global positions `positions` [s] of their rows. Each packed sequence
  // starts at position 0; mrope reads position_ids [3, b, s].
  RotaryTable table(const at::Tensor& positions, const at::Tensor& position_ids,
                    const std::optional<PackedSeqParams>& packed_seq_params, at::ScalarType dtype,
                    at::Device device) const;

 private:
  ModelRotaryEmbedding(RotaryEmbedding rotary, const GPTModelConfig& config);

  RotaryEmbedding rotary_;
  std::vector<int64_t> mrope_section_;  // empty unless mrope
  double position_scale_;
};

}  // namespace megatron
