// One micro-batch of a rank. Pipeline stages whose chunks read no tokens (GPTModel::reads_tokens)
// need only the sample ordinals and the sequence length.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

struct MicroBatch {
  at::Tensor tokens;          // [b, s] int64
  at::Tensor position_ids;    // [b, s] int64; [3, b, s] with mrope
  at::Tensor labels;          // [b, s] int64
  at::Tensor loss_mask;       // [b, s] floating point: 0 where a token does not count
  at::Tensor attention_mask;  // [1 or b, 1, s, s] bool, true = masked out; undefined: causal
  at::Tensor padding_mask;    // [b, s] bool, true = padding, which experts ignore; may be undefined
  at::Tensor sample_ordinals;   // [b] int64: index of each row among the samples of the run
  int64_t sequence_length = 0;  // s, read where the tokens are undefined

  int64_t rows() const { return sample_ordinals.size(0); }
  int64_t length() const { return tokens.defined() ? tokens.size(1) : sequence_length; }
};

// The slice of a context-parallel rank: its tokens of every row (zigzag.h). The attention mask is
// not split. Throws Error where the sequence length does not divide.
MicroBatch context_parallel_slice(const MicroBatch& whole, const ProcessGroup& cp);
std::vector<MicroBatch> context_parallel_slices(const std::vector<MicroBatch>& whole,
                                                const ProcessGroup& cp);

// Global positions of the rank's tokens in rows of `sequence_length`: [s/cp] int64.
at::Tensor token_positions(int64_t sequence_length, const ProcessGroup& cp);

// How data-parallel ranks share the micro-batches of a step.
enum class BatchSharing {
  whole_microbatches,  // each rank has its own micro-batches
  rows  // each rank has some rows of every micro-batch; token counts are summed over the ranks
};

}  // namespace megatron
