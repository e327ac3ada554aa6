// Weight gradients that are deferred to the end of a step (Megatron's
// defer_embedding_wgrad_compute): the last pipeline stage computes those of its large output layer
// after its other backward passes, while earlier stages are still in their backward passes.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

class DeferredWeightGradients {
 public:
  // Defers those of up to `limit` backward passes; 0 means no limit.
  explicit DeferredWeightGradients(int64_t limit) : limit_(limit) {}

  bool accepts() const { return limit_ == 0 || pending() < limit_; }
  int64_t pending() const { return static_cast<int64_t>(entries_.size()); }

  // Defers main_grad [out, in] += grad_output^T x, with grad_output [..., out] and x [..., in]. If
  // `gather` is not null, x is this rank's shard along dimension 0, and is all-gathered over that
  // group first. The group must outlive the entry.
  void add(at::Tensor main_grad, at::Tensor grad_output, at::Tensor x, const ProcessGroup* gather);

  // Computes and removes all entries, in the order in which they were added. Collective over their
  // groups: the next input is gathered during each matmul.
  void compute();

 private:
  struct Entry {
    at::Tensor main_grad, grad_output, x;
    const ProcessGroup* gather = nullptr;
  };

  int64_t limit_;
  std::vector<Entry> entries_;
};

}  // namespace megatron
