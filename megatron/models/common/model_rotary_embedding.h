// The rotary embedding that a model's configuration asks for.
#pragma once

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/transformer/layer_input.h"

namespace megatron {

// One for a whole model, shared by its layers: position embeddings of type rope, yarn or mrope, or
// latent attention's rope or yarn.
class ModelRotaryEmbedding {
 public:
  // Null where the positions are not rotary.
  static std::unique_ptr<ModelRotaryEmbedding> make(const GPTModelConfig& config);

  // The table of a pass over tokens at the global places `positions` [s] of their rows. Packed
  // sequences count from 0 again; mrope follows position_ids [3, b, s].
  RotaryTable table(const at::Tensor& positions, const at::Tensor& position_ids,
                    const std::optional<PackedSeqParams>& packed_seq_params, at::ScalarType dtype,
                    at::Device device) const;

 private:
  ModelRotaryEmbedding(RotaryEmbedding rotary, const GPTModelConfig& config)
      : rotary_(std::move(rotary)),
        mrope_section_(config.transformer.mrope_section),
        position_scale_(1.0 / config.seq_len_interpolation_factor.value_or(1.0)) {}

  RotaryEmbedding rotary_;
  std::vector<int64_t> mrope_section_;  // empty but for mrope
  double position_scale_;
};

}  // namespace megatron
