// Activation recomputation (Chen et al., 2016): a part of the forward pass whose intermediate
// results are not kept but computed again in backward. Random masks are functions of their keys, so
// the second run gives the bits of the first, and no generator state is saved.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

using Tensors = std::vector<at::Tensor>;
// A pure function of its arguments. What it captures must outlive the graph, and may require a
// gradient only where it is a leaf: a parameter, whose gradient is accumulated as everywhere.
// Entries may be undefined; a collective inside must come in the same order on every rank.
using TensorFunction = std::function<Tensors(const Tensors&)>;

class RecomputeNode;

// One such part: runs `function` on `inputs` at once. Not `wanted`, without grad mode, or where
// nothing requires a gradient, that is all. Otherwise backward runs it a second time and goes back
// through that run: by backward() only (Error from grad(), which would still give the parameters
// their gradients, and from create_graph).
class Recomputation {
 public:
  Recomputation(bool wanted, const TensorFunction& function, const Tensors& inputs);

  const Tensors& outputs() const { return outputs_; }

  // Frees the storage of the outputs too, until the gradient of `result` is known: then `function`
  // runs again and the tensors that were kept of the outputs hold their values again (Megatron's
  // CheckpointWithoutOutput). To be called when forward has read the outputs for the last time;
  // `result` is something computed from them whose gradient comes before any backward that reads
  // them.
  void discard_outputs(const at::Tensor& result) const;

 private:
  Tensors outputs_;
  std::shared_ptr<RecomputeNode> node_;  // null where nothing is to be recomputed
};

// function(inputs...), one tensor; recomputed in backward if `wanted`.
template <typename Function, typename... Inputs>
at::Tensor recompute_if(bool wanted, const Function& function, const Inputs&... inputs) {
  const auto unpacked = [function](const Tensors& list) {
    return [&]<size_t... i>(std::index_sequence<i...>) {
      return Tensors{function(list[i]...)};
    }
    (std::index_sequence_for<Inputs...>());
  };
  return Recomputation(wanted, unpacked, {inputs...}).outputs()[0];
}

}  // namespace megatron
