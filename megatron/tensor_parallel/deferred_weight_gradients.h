// Weight gradients that wait for the end of a step (Megatron's defer_embedding_wgrad_compute): the
// last pipeline stage computes those of its large output layer when its other backward passes are
// done, while the stages before it still wait for theirs.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

class DeferredWeightGradients {
 public:
  // Of at most `limit` backward passes at a time; 0: of any number.
  explicit DeferredWeightGradients(int64_t limit) : limit_(limit) {}

  bool accepts() const { return limit_ == 0 || pending() < limit_; }
  int64_t pending() const { return static_cast<int64_t>(entries_.size()); }

  // Keeps what grad_output^T x, to be added into main_grad [out, in], is made of: grad_output
  // [..., out] and x [..., in], or this rank's part of x along dimension 0 where `gather` is its
  // group. The group must outlive the entry.
  void add(at::Tensor main_grad, at::Tensor grad_output, at::Tensor x, const ProcessGroup* gather);

  // Computes them in the order in which they came, and forgets them. Collective over the group of
  // parts: the next whole input arrives beside each product.
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
