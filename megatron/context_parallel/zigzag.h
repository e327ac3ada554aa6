// How a row of tokens is shared out over a context-parallel group: each sequence is cut into 2 x
// cp chunks of which rank r holds r and 2 x cp - 1 - r, so that under a causal rule all ranks have
// as many keys to look at (Megatron's get_batch_on_this_cp_rank).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

struct SequenceSplit {
  int64_t length = 0;  // tokens of the whole row
  int size = 1;        // ranks
  // Packed sequences, each split by itself: where each starts and the last ends, int64 on the CPU.
  // Undefined: one sequence.
  at::Tensor cu_seqlens;
};

// The places in the row of the tokens that a rank holds: [length / size] int64 on the CPU,
// ascending. Throws Error for a sequence that 2 x size does not divide.
at::Tensor zigzag_positions(const SequenceSplit& split, int rank);

// Those of all ranks, one after the other: [length]. What is gathered comes in this order.
at::Tensor gathered_positions(const SequenceSplit& split);

// The inverse: at which place of what was gathered each token of the row is. [length]
at::Tensor places_of_tokens(const at::Tensor& gathered_positions);

}  // namespace megatron
