#include "megatron/transformer/roll_left.h"

#include <ATen/ATen.h>

namespace megatron {

at::Tensor roll_left(const at::Tensor& tokens,
                     const std::optional<PackedSeqParams>& packed_seq_params) {
  const int64_t s = tokens.size(-1);
  at::Tensor rolled = at::roll(tokens, /*shifts=*/-1, /*dims=*/-1);
  if (!packed_seq_params) {
    rolled.select(-1, s - 1).zero_();
    return rolled;
  }
  const at::Tensor offsets = packed_seq_params->checked_offsets(s);
  const at::Tensor last_positions = offsets.narrow(0, 1, offsets.size(0) - 1) - 1;
  return rolled.index_fill_(-1, last_positions.to(tokens.device()), 0);
}

at::Tensor roll_left(const at::Tensor& tokens,
                     const std::optional<PackedSeqParams>& packed_seq_params,
                     const ProcessGroup* cp) {
  if (cp == nullptr || cp->size() == 1) return roll_left(tokens, packed_seq_params);
  const int64_t s = tokens.size(-1), ranks = cp->size();
  // This rank holds two chunks of equal length of every sequence, the earlier one first.
  const at::Tensor offsets = packed_seq_params
                                 ? packed_seq_params->checked_offsets(s * ranks).div(ranks, "trunc")
                                 : at::tensor({int64_t{0}, s});
  const at::Tensor early = offsets.narrow(0, 0, offsets.numel() - 1);
  const at::Tensor late = early + offsets.diff().div(2, "trunc");
  const at::Tensor starts = at::stack({early, late}, 1).flatten();
  const at::Tensor heads =
      tokens.index_select(-1, starts.to(tokens.device())).unflatten(-1, {-1, 2}).contiguous();
  const at::Tensor of_ranks = cp->all_gather(heads.unsqueeze(0));
  // Rank r's early chunk is followed by that of rank r + 1; the last rank's by its own late chunk.
  // Rank r's late chunk is followed by that of rank r - 1; the first rank's ends the sequence.
  at::Tensor next = at::zeros_like(heads);
  next.select(-1, 0).copy_(cp->is_last() ? heads.select(-1, 1)
                                         : of_ranks[cp->rank() + 1].select(-1, 0));
  if (!cp->is_first()) next.select(-1, 1).copy_(of_ranks[cp->rank() - 1].select(-1, 1));
  const at::Tensor ends =
      at::cat({starts.narrow(0, 1, starts.numel() - 1), at::full({1}, s, at::kLong)}) - 1;
  return at::roll(tokens, /*shifts=*/-1, /*dims=*/-1)
      .index_copy_(-1, ends.to(tokens.device()), next.flatten(-2));
}

}  // namespace megatron
