// Shifts tokens left by one: the targets of the next MTP depth.
#pragma once

#include "megatron/parallel/process_group.h"
#include "megatron/transformer/packed_seq_params.h"

namespace megatron {

// [..., s] -> [..., s]: result[i] = tokens[i + 1]; the last position of the row, or of each packed
// sequence, becomes 0 (Megatron's roll_tensor). Throws Error for invalid boundaries.
at::Tensor roll_left(const at::Tensor& tokens,
                     const std::optional<PackedSeqParams>& packed_seq_params);

// Rolls a row that is sharded over a context-parallel group (zigzag.h), [..., s/cp]. Ranks exchange
// the first token of each chunk. Collective; `cp` may be null.
at::Tensor roll_left(const at::Tensor& tokens,
                     const std::optional<PackedSeqParams>& packed_seq_params,
                     const ProcessGroup* cp);

}  // namespace megatron
