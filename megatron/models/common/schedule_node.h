// A piece of a forward pass with its own autograd graph, whose forward and backward a schedule runs
// separately.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace megatron {

class ScheduleNode {
 public:
  using Computation = std::function<at::Tensor(const at::Tensor& input)>;

  // An empty node returns its input, forward and backward.
  ScheduleNode() = default;
  explicit ScheduleNode(Computation computation) : computation_(std::move(computation)) {}

  bool is_empty() const { return computation_ == nullptr; }

  // Runs the computation on the detached input and returns the detached output. The graph between
  // them is kept until backward() or release().
  at::Tensor forward(const at::Tensor& input);

  // Returns the gradient of the input, undefined if none, and accumulates the gradients of the
  // parameters. Throws Error unless forward ran before.
  at::Tensor backward(const at::Tensor& output_grad);

  void release() { input_ = output_ = at::Tensor(); }

 private:
  Computation computation_;
  at::Tensor input_, output_;  // between forward and backward
};

}  // namespace megatron
