#include "megatron/transformer/joined_graph.h"

#include <algorithm>

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

namespace megatron {
namespace {

namespace autograd = torch::autograd;

class JoinNode : public autograd::Node {
 public:
  explicit JoinNode(const Tensors& tensors)
      : autograd::Node(autograd::collect_next_edges(tensors)) {}

  std::string name() const override { return "JoinBackward"; }

  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    return std::move(gradients);
  }
};

}  // namespace

Tensors joined_graph(const Tensors& tensors) {
  Tensors defined;
  std::ranges::copy_if(tensors, std::back_inserter(defined),
                       [](const at::Tensor& tensor) { return tensor.defined(); });
  const bool has_gradient =
      std::ranges::any_of(defined, [](const at::Tensor& tensor) { return tensor.requires_grad(); });
  if (!at::GradMode::is_enabled() || !has_gradient) return tensors;
  const std::shared_ptr<JoinNode> node(new JoinNode(defined), autograd::deleteNode);
  Tensors result = tensors;
  for (at::Tensor& tensor : result) {
    if (!tensor.defined()) continue;
    tensor = tensor.variable_data();
    autograd::set_history(tensor, node);
  }
  return result;
}

}  // namespace megatron
