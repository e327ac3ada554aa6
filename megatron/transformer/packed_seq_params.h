// Several sequences side by side in one row of tokens (Megatron's PackedSeqParams, format thd).
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

namespace megatron {

struct PackedSeqParams {
  // [sequences + 1], int32 or int64: sequence i takes the tokens [cu_seqlens[i], cu_seqlens[i +
  // 1]).
  at::Tensor cu_seqlens_q, cu_seqlens_kv;
  std::optional<int64_t> max_seqlen_q, max_seqlen_kv;  // checked where given

  // The offsets of queries and keys on the CPU, int64. Throws Error where they do not begin at 0,
  // do not increase or do not end at `tokens`, or where queries and keys differ.
  at::Tensor checked_offsets(int64_t tokens) const;
  // Each token's place in its own sequence: [tokens] int64.
  at::Tensor positions(int64_t tokens) const;
  // The attention mask of the same sequences: bool [1, 1, tokens, tokens], true = masked: other
  // sequences and what lies ahead.
  at::Tensor block_diagonal_mask(int64_t tokens) const;
};

}  // namespace megatron
