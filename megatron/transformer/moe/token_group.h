// The tokens of a micro-batch over all ranks that hold some of them: what a router must know of them
// to decide as one rank with all tokens would.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/tensor_parallel/layer_options.h"
#include "megatron/transformer/forward_context.h"

namespace megatron {

class TokenGroup {
 public:
  // The ranks of the sequence (context and sequence parallelism) and, where the data-parallel ranks
  // share the micro-batch's rows, these too. `options` and `context` must outlive the group.
  TokenGroup(const LayerOptions& options, const ForwardContext& context);

  int64_t tokens() const { return positions() * rows(); }  // of this rank
  int64_t positions() const { return context_.residual_positions.size(0); }
  int64_t rows() const { return context_.sample_ordinals.size(0); }
  int64_t rows_of_all_ranks() const;

  // Position and row in the micro-batch of this rank's tokens, each [tokens] int64 on the CPU.
  // Tokens are position-major: token i is position i / rows, row i % rows.
  at::Tensor position_of_token() const;
  at::Tensor row_of_token() const;

  // [tokens] bool: which tokens are no padding; undefined: all.
  at::Tensor valid_tokens() const;
  // The number of the packed sequence of each position, [positions] int64; undefined: rows are
  // sequences.
  at::Tensor sequence_numbers() const;

  // The sum over the ranks, in place. Without gradients.
  at::Tensor sum(const at::Tensor& tensor) const;
  // The sum over the ranks that hold other positions of the same rows.
  at::Tensor sum_over_positions(const at::Tensor& tensor) const;
  // [tokens, ...] -> the tokens of all ranks in the order in which one rank has them. Without
  // gradients. The first call exchanges the order. Collective.
  at::Tensor gather(const at::Tensor& local) const;
  // This rank's tokens of what gather() returns.
  at::Tensor own(const at::Tensor& all) const;

 private:
  at::Tensor local_slice(const at::Tensor& of_positions, int64_t dim) const;

  const LayerOptions& options_;
  const ForwardContext& context_;
  ProcessGroupPtr all_, positions_;
  mutable at::Tensor order_;  // [tokens of all ranks]: where each token of the order is gathered
};

}  // namespace megatron
