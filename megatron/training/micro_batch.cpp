#include "megatron/training/micro_batch.h"

#include <ATen/ATen.h>

#include "megatron/context_parallel/zigzag.h"

namespace megatron {

at::Tensor token_positions(int64_t sequence_length, const ProcessGroup& cp) {
  if (cp.size() == 1) return at::arange(sequence_length, at::kLong);
  return zigzag_positions({.length = sequence_length, .size = cp.size()}, cp.rank());
}

MicroBatch context_parallel_slice(const MicroBatch& whole, const ProcessGroup& cp) {
  if (cp.size() == 1) return whole;
  const at::Tensor positions = token_positions(whole.length(), cp);
  MicroBatch slice = whole;
  for (at::Tensor* tensor : {&slice.tokens, &slice.position_ids, &slice.labels, &slice.loss_mask}) {
    if (tensor->defined()) *tensor = tensor->index_select(-1, positions.to(tensor->device()));
  }
  if (slice.padding_mask.defined())
    slice.padding_mask =
        slice.padding_mask.index_select(-1, positions.to(slice.padding_mask.device()));
  slice.sequence_length = positions.size(0);
  return slice;
}

std::vector<MicroBatch> context_parallel_slices(const std::vector<MicroBatch>& whole,
                                                const ProcessGroup& cp) {
  std::vector<MicroBatch> slices;
  for (const MicroBatch& microbatch : whole)
    slices.push_back(context_parallel_slice(microbatch, cp));
  return slices;
}

}  // namespace megatron
