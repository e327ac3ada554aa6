#include "megatron/models/common/schedule_node.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include "megatron/base/error.h"

namespace megatron {

Tensors ScheduleNode::forward(const Tensors& inputs) {
  if (is_empty()) return inputs;
  check(
      !ran_,
      "Expected backward() of a schedule node before its next forward(), but got forward() twice");
  for (const at::Tensor& input : inputs) {
    const bool has_gradient =
        input.defined() && at::GradMode::is_enabled() && at::isFloatingType(input.scalar_type());
    inputs_.push_back(input.defined() ? input.detach().requires_grad_(has_gradient) : input);
  }
  Tensors outputs = computation_(inputs_);
  for (at::Tensor& output : outputs) {
    const bool has_gradient = output.defined() && output.requires_grad();
    edges_.push_back(has_gradient ? torch::autograd::impl::gradient_edge(output)
                                  : torch::autograd::Edge());
    if (output.defined()) output = output.detach();
  }
  ran_ = true;
  return outputs;
}

Tensors ScheduleNode::backward(const Tensors& output_grads) {
  if (is_empty()) return output_grads;
  check(ran_, "Expected forward() of a schedule node before backward(), but got none");
  check(output_grads.size() == edges_.size(),
        "Expected gradients of the {} outputs of a schedule node, but got {}", edges_.size(),
        output_grads.size());
  const auto is_defined = [](const at::Tensor& tensor) { return tensor.defined(); };
  // A node without input may have no trainable parameters either.
  const bool has_graph =
      std::ranges::any_of(edges_, [](const auto& edge) { return edge.is_valid(); });
  check(has_graph || std::ranges::none_of(inputs_, is_defined),
        "Expected forward() of a schedule node in grad mode before backward(), but it ran without");
  torch::autograd::edge_list roots;
  torch::autograd::variable_list root_grads;
  for (size_t i = 0; i < edges_.size(); ++i) {
    if (!edges_[i].is_valid() || !output_grads[i].defined()) continue;
    roots.push_back(edges_[i]);
    root_grads.push_back(output_grads[i]);
  }
  if (!roots.empty()) {
    torch::autograd::Engine::get_default_engine().execute(
        roots, root_grads, /*keep_graph=*/false, /*create_graph=*/false, /*accumulate_grad=*/true);
  }
  Tensors input_grads;
  for (const at::Tensor& input : inputs_)
    input_grads.push_back(input.defined() ? input.grad() : at::Tensor());
  release();
  return input_grads;
}

void ScheduleNode::release() {
  ran_ = false;
  inputs_.clear();
  edges_.clear();
}

}  // namespace megatron
