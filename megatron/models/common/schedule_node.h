// A piece of a forward pass with its own autograd graph, whose forward and backward a schedule runs
// separately.
#pragma once

#include <functional>

#include <torch/csrc/autograd/edge.h>

#include "megatron/ops/recompute.h"

namespace megatron {

class ScheduleNode {
 public:
  // Inputs and results may be undefined.
  using Computation = std::function<Tensors(const Tensors& inputs)>;

  // An empty node returns its inputs, forward and backward.
  ScheduleNode() = default;
  explicit ScheduleNode(Computation computation) : computation_(std::move(computation)) {}

  bool is_empty() const { return computation_ == nullptr; }

  // Runs the computation on the detached inputs and returns the detached outputs. The graph between
  // them is kept until backward() or release(); the outputs' values are not.
  Tensors forward(const Tensors& inputs);

  // The gradients of the outputs, undefined for those without one -> those of the inputs, undefined
  // for inputs without one. Accumulates the gradients of the parameters. Throws Error unless forward
  // ran before.
  Tensors backward(const Tensors& output_grads);

  void release();

 private:
  Computation computation_;
  // Between forward and backward.
  bool ran_ = false;
  Tensors inputs_;
  torch::autograd::edge_list edges_;  // of the outputs in the graph; invalid without a gradient
};

}  // namespace megatron
