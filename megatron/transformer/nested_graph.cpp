#include "megatron/transformer/nested_graph.h"

#include <algorithm>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

namespace autograd = torch::autograd;

class NestedGraphNode : public autograd::Node {
 public:
  // `leaves` are the graph's inputs, detached from the inputs of the node.
  NestedGraphNode(const Tensors& inputs, Tensors leaves, at::Tensor output)
      : autograd::Node(autograd::collect_next_edges(inputs)),
        leaves_(std::move(leaves)),
        output_(std::move(output)) {}

  std::string name() const override { return "NestedGraphBackward"; }

  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    check(output_.defined(),
          "Expected one backward pass through a nested graph, but got a second one; run forward "
          "again before it");
    check(autograd::Engine::get_default_engine().is_checkpoint_valid(),
          "Expected backward() through a nested graph, but got grad() of chosen inputs; backward() "
          "fills their grad()");
    const at::Tensor output = std::exchange(output_, at::Tensor());
    if (gradients[0].defined()) autograd::backward({output}, {gradients[0]});
    autograd::variable_list result;
    for (const at::Tensor& leaf : leaves_)
      result.push_back(leaf.defined() ? leaf.grad() : at::Tensor());
    leaves_.clear();
    return result;
  }

  void release_variables() override {
    leaves_.clear();
    output_.reset();
  }

 private:
  Tensors leaves_;
  at::Tensor output_;
};

}  // namespace

at::Tensor run_in_nested_graph(const TensorFunction& function, const Tensors& inputs) {
  if (!at::GradMode::is_enabled()) return function(inputs)[0];
  Tensors leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.detach().requires_grad_(input.requires_grad())
                                     : input);
  }
  const at::Tensor output = function(leaves)[0];
  if (!output.requires_grad()) return output;
  const std::shared_ptr<NestedGraphNode> node(
      new NestedGraphNode(inputs, std::move(leaves), output), autograd::deleteNode);
  at::Tensor result = output.variable_data();
  autograd::set_history(result, node);
  return result;
}

}  // namespace megatron
