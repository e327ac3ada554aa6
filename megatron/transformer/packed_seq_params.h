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
  // Where padding follows the sequences, as context parallelism may need it: where they lie with
  // it. Sequence i's own tokens then are the first cu_seqlens[i + 1] - cu_seqlens[i] of those.
  // Under a causal rule they never see the padding; the loss must be masked there.
  at::Tensor cu_seqlens_q_padded, cu_seqlens_kv_padded;
  std::optional<int64_t> max_seqlen_q, max_seqlen_kv;  // checked where given

  // The offsets of queries and keys on the CPU, int64, with the padding. Throws Error where they do
  // not begin at 0, do not increase or do not end at `tokens`, where queries and keys differ, or
  // where a sequence is longer than its place.
  at::Tensor checked_offsets(int64_t tokens) const;
  // The places in their own sequences of the tokens that stand at `positions` of the row: [s]
  // int64.
  at::Tensor places(const at::Tensor& positions) const;
  // The attention mask of the same sequences: bool [1, 1, tokens, tokens], true = masked: other
  // sequences and what lies ahead.
  at::Tensor block_diagonal_mask(int64_t tokens) const;
};

}  // namespace megatron
