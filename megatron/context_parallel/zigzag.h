// How a context-parallel group shards a row of tokens: each sequence is cut into 2 x cp chunks, of
// which rank r holds chunks r and 2 x cp - 1 - r. With a causal mask all ranks then attend to the
// same number of keys (Megatron's get_batch_on_this_cp_rank).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

struct SequenceSplit {
  int64_t length = 0;  // tokens of the row, over all ranks
  int size = 1;        // ranks
  // Packed sequences, each split separately: the offset of each sequence and the end of the last,
  // int64 on the CPU. Undefined: one sequence.
  at::Tensor cu_seqlens;
};

// The positions in the row of the tokens that a rank holds: [length / size] int64 on the CPU,
// ascending. Throws Error for a sequence whose length is not divisible by 2 x size.
at::Tensor zigzag_positions(const SequenceSplit& split, int rank);

// The positions of all ranks, concatenated: the order of the tokens after an all-gather. [length]
at::Tensor gathered_positions(const SequenceSplit& split);

// The inverse of a permutation of 0 .. n - 1; applied to gathered_positions, the index among the
// gathered tokens of each token of the row.
at::Tensor inverse_permutation(const at::Tensor& permutation);

}  // namespace megatron
