#include "megatron/training/micro_batch.h"

#include <ATen/ATen.h>

#include "megatron/context_parallel/zigzag.h"

namespace megatron {

at::Tensor token_positions(int64_t sequence_length, const ProcessGroup& cp) {
  if (cp.size() == 1) return at::arange(sequence_length, at::kLong);
  return zigzag_positions({.length = sequence_length, .size = cp.size()}, cp.rank());
}

MicroBatch context_parallel_part(const MicroBatch& whole, const ProcessGroup& cp) {
  if (cp.size() == 1) return whole;
  const at::Tensor positions = token_positions(whole.length(), cp);
  const auto part = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.index_select(-1, positions.to(tensor.device())) : tensor;
  };
  MicroBatch own = whole;
  for (at::Tensor* tensor : {&own.tokens, &own.position_ids, &own.labels, &own.loss_mask})
    *tensor = part(*tensor);
  own.sequence_length = positions.size(0);
  return own;
}

}  // namespace megatron
