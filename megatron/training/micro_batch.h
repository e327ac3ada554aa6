// One micro-batch as a rank sees it. Stages whose chunks read no tokens (GPTModel::reads_tokens)
// need nothing of it but the ordinals and the length.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

struct MicroBatch {
  at::Tensor tokens;            // [b, s] int64
  at::Tensor position_ids;      // [b, s] int64; [3, b, s] with mrope
  at::Tensor labels;            // [b, s] int64
  at::Tensor loss_mask;         // [b, s] floating: 0 where a token does not count
  at::Tensor attention_mask;    // [1 or b, 1, s, s] bool, true = masked; undefined: causal
  at::Tensor sample_ordinals;   // [b] int64: ordinals in the training run
  int64_t sequence_length = 0;  // s, for where the tokens are undefined

  int64_t rows() const { return sample_ordinals.size(0); }
  int64_t length() const { return tokens.defined() ? tokens.size(1) : sequence_length; }
};

// The part of a context-parallel rank: its tokens of every row (zigzag.h); the attention mask stays
// whole. Throws Error where the sequence does not divide.
MicroBatch context_parallel_part(const MicroBatch& whole, const ProcessGroup& cp);

// The places of its tokens in rows of `sequence_length`: [s/cp] int64.
at::Tensor token_positions(int64_t sequence_length, const ProcessGroup& cp);

// How the micro-batches of a step are shared out over the data-parallel ranks.
enum class BatchSharing {
  whole_microbatches,  // each rank has micro-batches of its own
  rows  // each rank has some rows of every micro-batch; token counts are summed over the ranks
};

}  // namespace megatron
