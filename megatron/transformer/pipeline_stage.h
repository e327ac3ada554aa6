// Which modules of the model one chunk of a pipeline stage holds.
#pragma once

#include <optional>

#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/model/transformer_config.h"

namespace megatron {

struct PipelineStage {
  int rank = 0;
  int size = 1;
  bool pre_process = true;   // holds the embedding
  bool post_process = true;  // holds the output layer
  int64_t first_layer = 0;   // global, from 0
  int64_t num_layers = 0;
  int chunk = 0;
  // Holds the MTP layers, if the model has any. Unset: the same as post_process.
  std::optional<bool> mtp_process = {};
  // The MTP layers are on an earlier virtual stage, whose MTP hidden states arrive together with
  // the decoder's: [(1 + depths) s, b, h].
  bool receives_mtp_hidden_states = false;

  static PipelineStage of(const PipelineLayout& layout, int rank, int chunk);
  // An even split. Throws Error if num_layers is not a multiple of `size`.
  static PipelineStage even(int64_t num_layers, int rank, int size);

  bool has_mtp_layers(const TransformerConfig& config) const {
    return config.mtp.mtp_num_layers > 0 && mtp_process.value_or(post_process);
  }
  // The final norm follows the last decoder layer, before the MTP layers and the output layer.
  bool has_final_layernorm(const TransformerConfig& config) const {
    return config.mtp.mtp_num_layers > 0 ? has_mtp_layers(config) : post_process;
  }
};

}  // namespace megatron
