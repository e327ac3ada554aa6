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
  const at::Tensor last_places = offsets.narrow(0, 1, offsets.size(0) - 1) - 1;
  return rolled.index_fill_(-1, last_places.to(tokens.device()), 0);
}

}  // namespace megatron
