// Activation recomputation (Chen et al., 2016): the intermediate results of a function are not kept
// for backward but computed again. Random masks are functions of their keys, so the second run
// gives the same bits without saved generator state.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

using Tensors = std::vector<at::Tensor>;
// A pure function of its arguments. Tensors that it captures must outlive the graph, and may
// require a gradient only if they are leaves: parameters, whose gradients accumulate as usual.
// Arguments and results may be undefined. Collectives in it must run in the same order on every
// rank.
using TensorFunction = std::function<Tensors(const Tensors&)>;

class RecomputeNode;

// Runs `function` on `inputs`, and again in backward if `recompute` is set, grad mode is on and
// anything requires a gradient; otherwise it is an ordinary call. Backward through the second run
// works with backward() only: grad() of chosen inputs and create_graph throw Error.
class Recomputation {
 public:
  Recomputation(bool recompute, const TensorFunction& function, const Tensors& inputs);

  const Tensors& outputs() const { return outputs_; }

  // Also frees the storage of the outputs until the gradient of `result` is known: then `function`
  // runs again, and tensors that share the outputs' storage hold their values again (Megatron's
  // CheckpointWithoutOutput). Call it after the last read of the outputs in forward. `result` is
  // computed from the outputs, and its gradient must be known before any backward reads them.
  void discard_outputs(const at::Tensor& result) const;

 private:
  Tensors outputs_;
  std::shared_ptr<RecomputeNode> node_;  // null if nothing is recomputed
};

// function(inputs...), which returns one tensor; recomputed in backward if `recompute`.
template <typename Function, typename... Inputs>
at::Tensor recompute_if(bool recompute, const Function& function, const Inputs&... inputs) {
  const auto unpacked = [function](const Tensors& list) {
    return [&]<size_t... i>(std::index_sequence<i...>) {
      return Tensors{function(list[i]...)};
    }
    (std::index_sequence_for<Inputs...>());
  };
  return Recomputation(recompute, unpacked, {inputs...}).outputs()[0];
}

}  // namespace megatron
