// The rotary embedding of a model.
#pragma once

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/transformer/layer_input.h"
#include "megatron/transformer/rotary_embedding.h"

namespace megatron {

// Llama 3.1's scaling as a configuration with rope_scaling has it.
Llama3Scaling llama3_scaling(const GPTModelConfig& config);

// Shared by all layers of a model: position embedding types rope, yarn and mrope, or rope and yarn
// of multi-latent attention.
class ModelRotaryEmbedding {
 public:
  // Null if the model has no rotary positions.
  static std::unique_ptr<ModelRotaryEmbedding> make(const GPTModelConfig& config);

  // Tokens at the global positions `positions` [s] of their rows, which have `row_length` positions
  // over all context-parallel ranks, cached ones included. Each packed sequence starts at position
  // 0; mrope reads position_ids [3, b, s].
  struct Tokens {
    at::Tensor positions, position_ids;
    int64_t row_length = 0;
    std::optional<PackedSeqParams> packed_seq_params = {};
  };

  // The table of all layers, or of those without a window if there are local ones. Dynamic scaling
  // and longrope use the frequencies of the longest sequence.
  RotaryTable table(const Tokens& tokens, at::ScalarType dtype, at::Device device) const;
  // The table of layers with a window; undefined without rotary_base_local.
  RotaryTable local_table(const Tokens& tokens, at::ScalarType dtype, at::Device device) const;

 private:
  ModelRotaryEmbedding(RotaryEmbedding rotary, const GPTModelConfig& config);

  // For sequences of up to `length` positions.
  RotaryEmbedding for_length(int64_t length) const;

  RotaryEmbedding rotary_;
  std::optional<RotaryEmbedding> local_;
  std::optional<RotaryEmbedding> long_;  // longrope beyond the original length
  std::vector<int64_t> mrope_section_;   // empty unless mrope
  double position_scale_;
  int64_t rotated_features_, original_length_;
  double base_;
  std::optional<double> dynamic_factor_;
  bool interleaved_;
};

}  // namespace megatron
