#include "megatron/transformer/forward_context.h"

#include <ATen/ops/arange.h>

namespace megatron {

ForwardContext ForwardContext::make(bool training, uint64_t seed, const at::Tensor& sample_ordinals,
                                    int64_t sequence_length, bool sequence_parallel, int tp_rank,
                                    int tp_size) {
  return make(training, seed, sample_ordinals, at::arange(sequence_length, at::kLong),
              sequence_parallel, tp_rank, tp_size);
}

ForwardContext ForwardContext::make(bool training, uint64_t seed, const at::Tensor& sample_ordinals,
                                    const at::Tensor& positions, bool sequence_parallel,
                                    int tp_rank, int tp_size) {
  ForwardContext context;
  context.training = training;
  context.seed = seed;
  context.sample_ordinals = sample_ordinals;
  context.positions = positions;
  const int64_t length = positions.size(0) / tp_size;
  context.residual_positions =
      sequence_parallel ? context.positions.narrow(0, tp_rank * length, length) : context.positions;
  return context;
}

}  // namespace megatron
