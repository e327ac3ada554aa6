// Boundaries of sequences packed into one row of tokens (Megatron's PackedSeqParams, format thd).
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

namespace megatron {

struct PackedSeqParams {
  // [sequences + 1], int32 or int64: sequence i holds tokens [cu_seqlens[i], cu_seqlens[i + 1]).
  at::Tensor cu_seqlens_q, cu_seqlens_kv;
  // Boundaries that include padding after each sequence, as context parallelism may need it. The
  // first cu_seqlens[i + 1] - cu_seqlens[i] tokens of padded sequence i are real. A causal mask
  // hides the padding from them; the loss of padding must be masked.
  at::Tensor cu_seqlens_q_padded, cu_seqlens_kv_padded;
  std::optional<int64_t> max_seqlen_q, max_seqlen_kv;  // checked if set

  // Padded boundaries on the CPU, int64. Throws Error if they do not start at 0, are not
  // increasing, do not end at `tokens`, differ between queries and keys, or leave a sequence too
  // little space.
  at::Tensor checked_offsets(int64_t tokens) const;
  // The number of the sequence of each token at `positions` of the row, from 0: [s] int64.
  at::Tensor sequence_numbers(const at::Tensor& positions) const;
  // Position within its sequence of each token at `positions` of the row: [s] int64.
  at::Tensor positions_in_sequence(const at::Tensor& positions) const;
};

}  // namespace megatron
