// State of one forward pass that is not model input: training mode, random seed, sample ordinals
// and token positions. It is passed through pipeline stages and into recomputation, so that dropout
// masks do not depend on the layout.
#pragma once

#include <memory>

#include "megatron/ops/random/dropout.h"

namespace megatron {

// Dropout sites within a layer. The embedding counts as layer 0.
enum class DropoutSite : int32_t {
  embedding = 0,
  attention = 1,
  self_attention_output = 2,
  mlp_output = 3,
  router_input = 4
};

class MoePass;

struct ForwardContext {
  bool training = false;  // enables dropout
  uint64_t seed = 0;
  at::Tensor sample_ordinals;  // [b] int64: position of each sample in the training run
  at::Tensor positions;        // [s] int64: global positions of this rank's tokens in attention
  // Global positions of this rank's tokens in the residual stream: [s], or [s/tp] with sequence
  // parallelism.
  at::Tensor residual_positions;

  // Experts: tokens that are no input, [b, s_p] bool, true = padding; undefined: none. They are not
  // routed and count in no loss.
  at::Tensor padding_mask;
  // The number of the packed sequence of each token, [s_p] int64; undefined: a row is one sequence.
  at::Tensor sequence_numbers;
  // The micro-batch's rows are shared out over the data-parallel ranks.
  bool shares_rows = false;
  // What routers know and record of this pass (transformer/moe/moe_pass.h); null: nothing.
  std::shared_ptr<MoePass> moe;

  // Added to layer numbers in dropout keys. MTP layers are numbered from 1 again, at every depth.
  int64_t layer_offset = 0;

  double dropout_probability(double p) const { return training ? p : 0.0; }
  DropoutKey key(int64_t layer_number, DropoutSite site) const {
    return {seed, layer_offset + layer_number, static_cast<int32_t>(site)};
  }
  DropoutIndex residual_index() const { return {sample_ordinals, residual_positions}; }
  DropoutIndex attention_index() const { return {sample_ordinals, positions}; }

  // Context for complete sequences of `sequence_length` tokens. With sequence parallelism,
  // residual_positions is slice `tp_rank` of `tp_size`.
  static ForwardContext make(bool training, uint64_t seed, const at::Tensor& sample_ordinals,
                             int64_t sequence_length, bool sequence_parallel, int tp_rank,
                             int tp_size);
  // Context for the tokens at `positions` [s] int64 (context parallelism).
  static ForwardContext make(bool training, uint64_t seed, const at::Tensor& sample_ordinals,
                             const at::Tensor& positions, bool sequence_parallel, int tp_rank,
                             int tp_size);
};

}  // namespace megatron
