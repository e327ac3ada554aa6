// Tokens one place further to the left: what each place is to predict one depth deeper.
#pragma once

#include "megatron/parallel/process_group.h"
#include "megatron/transformer/packed_seq_params.h"

namespace megatron {

// [..., s] -> [..., s]: place i takes what stood at i + 1; the last place, with packed sequences
// that of each, takes 0 (Megatron's roll_tensor). Throws Error for offsets that do not fit.
at::Tensor roll_left(const at::Tensor& tokens,
                     const std::optional<PackedSeqParams>& packed_seq_params);

// The same of a row that is split over a context-parallel group (zigzag.h), [..., s/cp]: the first
// tokens of the chunks are exchanged. Collective; `cp` may be null.
at::Tensor roll_left(const at::Tensor& tokens,
                     const std::optional<PackedSeqParams>& packed_seq_params,
                     const ProcessGroup* cp);

}  // namespace megatron
