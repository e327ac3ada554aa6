// What one forward pass of a micro-batch knows besides its tensors. It travels through the pipeline
// stages and into recomputation, so that dropout draws the same masks in every layout.
#pragma once

#include "megatron/ops/random/dropout.h"

namespace megatron {

// Where in a layer (or before the first one, layer 0) a dropout mask is drawn.
enum class DropoutSite : int32_t {
  embedding = 0,
  attention = 1,
  self_attention_output = 2,
  mlp_output = 3
};

struct ForwardContext {
  bool training = false;  // dropout is drawn only then
  uint64_t seed = 0;
  at::Tensor sample_ordinals;  // [b] int64: the samples' ordinals in the training run
  at::Tensor positions;        // [s] int64: global positions of this rank's tokens in attention
  at::Tensor
      residual_positions;  // [s] or [s/tp]: those of the residual stream (sequence parallelism)

  // Added to layer numbers in keys: the prediction layers behind the decoder count from 1 again, at
  // every depth anew.
  int64_t layer_offset = 0;

  double dropout_probability(double p) const { return training ? p : 0.0; }
  DropoutKey key(int64_t layer_number, DropoutSite site) const {
    return {seed, layer_offset + layer_number, static_cast<int32_t>(site)};
  }
  DropoutIndex residual_index() const { return {sample_ordinals, residual_positions}; }
  DropoutIndex attention_index() const { return {sample_ordinals, positions}; }

  // A pass over `sequence_length` whole sequences; with sequence parallelism the residual stream
  // holds part `tp_rank` of `tp_size`.
  static ForwardContext make(bool training, uint64_t seed, const at::Tensor& sample_ordinals,
                             int64_t sequence_length, bool sequence_parallel, int tp_rank,
                             int tp_size);
  // The same over the tokens at `positions` [s] int64 alone (context parallelism).
  static ForwardContext make(bool training, uint64_t seed, const at::Tensor& sample_ordinals,
                             const at::Tensor& positions, bool sequence_parallel, int tp_rank,
                             int tp_size);
};

}  // namespace megatron
