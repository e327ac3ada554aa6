// One piece of a pass that keeps an autograd graph of its own, so that a schedule may run its
// forward and its backward whenever it likes.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace megatron {

class ScheduleNode {
 public:
  using Computation = std::function<at::Tensor(const at::Tensor& input)>;

  // An empty node hands on what it is given, in both directions.
  ScheduleNode() = default;
  explicit ScheduleNode(Computation computation) : computation_(std::move(computation)) {}

  bool is_empty() const { return computation_ == nullptr; }

  // Runs the computation on the input cut off from its history, and gives the output cut off from
  // its own. The graph between them stays until backward or release.
  at::Tensor forward(const at::Tensor& input);

  // The gradient of the input, given that of the output; undefined where nothing flows back. Adds
  // to the gradients of the parameters on the way. Throws Error unless forward came before.
  at::Tensor backward(const at::Tensor& output_grad);

  void release() { input_ = output_ = at::Tensor(); }

 private:
  Computation computation_;
  at::Tensor input_, output_;  // between forward and backward
};

}  // namespace megatron
