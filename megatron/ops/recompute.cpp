#include "megatron/ops/recompute.h"

#include <algorithm>
#include <utility>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

namespace autograd = torch::autograd;

bool requires_grad(const at::Tensor& tensor) {
  return tensor.defined() && tensor.requires_grad();
}

at::DataPtr no_data(const c10::Storage& storage) {
  return {nullptr, storage.device()};
}

// Makes `empty`, and so every tensor that uses it, refer to the memory of `full`.
void share_memory(c10::Storage& empty, const c10::Storage& full) {
  check(empty.nbytes() == full.nbytes(), "Expected a recomputed output of {} bytes, but got {}",
        empty.nbytes(), full.nbytes());
  auto owner = std::make_unique<c10::Storage>(full);
  void* const data = full.mutable_data();
  empty.set_data_ptr_noswap({data, owner.release(),
                             [](void* storage) { delete static_cast<c10::Storage*>(storage); },
                             full.device()});
}

}  // namespace

class RecomputeNode : public autograd::Node {
 public:
  RecomputeNode(TensorFunction function, const Tensors& inputs)
      : autograd::Node(autograd::collect_next_edges(inputs)), function_(std::move(function)) {
    for (const at::Tensor& input : inputs) {
      inputs_.emplace_back(input, /*is_output=*/false);
      input_requires_grad_.push_back(requires_grad(input));
    }
  }

  std::string name() const override { return "RecomputeBackward"; }

  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    run_again();
    const SecondRun run = *std::exchange(second_run_, std::nullopt);
    autograd::variable_list roots, root_gradients;
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined() || !requires_grad(run.outputs[i])) continue;
      roots.push_back(run.outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
    if (!roots.empty()) autograd::backward(roots, root_gradients);
    autograd::variable_list result;
    for (const at::Tensor& input : run.inputs) {
      result.push_back(input.defined() ? input.grad() : at::Tensor());
    }
    return result;
  }

  void release_variables() override {
    released_ = true;
    function_ = nullptr;
    inputs_.clear();
    discarded_.clear();
  }

  void discard(const Tensors& outputs) {
    std::vector<c10::StorageImpl*> kept;  // storages that inputs share are not freed
    for (const autograd::SavedVariable& input : inputs_) {
      const at::Tensor tensor = input.unpack();
      if (tensor.defined()) kept.push_back(tensor.storage().unsafeGetStorageImpl());
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].defined()) continue;
      c10::Storage storage = outputs[i].storage();
      if (std::ranges::find(kept, storage.unsafeGetStorageImpl()) != kept.end()) continue;
      kept.push_back(storage.unsafeGetStorageImpl());
      storage.set_data_ptr_noswap(no_data(storage));
      discarded_.emplace_back(i, std::move(storage));
    }
  }

  // Runs the function a second time, once for each backward through the node.
  void run_again() {
    if (second_run_) return;
    check(!released_,
          "Expected one backward through a recomputed function, but got a second one; set "
          "retain_graph in the first");
    check(!at::GradMode::is_enabled(),
          "Expected backward without create_graph through a recomputed function, but got "
          "create_graph");
    check(
        autograd::Engine::get_default_engine().is_checkpoint_valid(),
        "Expected backward() through a recomputed function, but got grad() of chosen inputs; call "
        "backward() and read the inputs' grad()");
    SecondRun run;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const at::Tensor input = inputs_[i].unpack();
      run.inputs.push_back(input.defined() ? input.detach() : input);
      if (input_requires_grad_[i]) run.inputs.back().requires_grad_();
    }
    const at::AutoGradMode grad_mode(true);
    run.outputs = function_(run.inputs);
    for (auto& [output, storage] : discarded_) share_memory(storage, run.outputs[output].storage());
    second_run_ = std::move(run);
  }

 private:
  struct SecondRun {
    Tensors inputs, outputs;
  };

  TensorFunction function_;
  std::vector<autograd::SavedVariable> inputs_;
  std::vector<bool> input_requires_grad_;
  std::vector<std::pair<size_t, c10::Storage>> discarded_;  // index of the output, its storage
  std::optional<SecondRun> second_run_;
  bool released_ = false;
};

Recomputation::Recomputation(bool recompute, const TensorFunction& function,
                             const Tensors& inputs) {
  if (!recompute || !at::GradMode::is_enabled()) {
    outputs_ = function(inputs);
    return;
  }
  bool differentiable = std::ranges::any_of(inputs, requires_grad);
  {
    // If no input requires a gradient, only a graph shows whether a captured parameter does.
    const at::AutoGradMode grad_mode(!differentiable);
    outputs_ = function(inputs);
    differentiable |= std::ranges::any_of(outputs_, requires_grad);
  }
  if (!differentiable) return;
  node_ = std::shared_ptr<RecomputeNode>(new RecomputeNode(function, inputs), autograd::deleteNode);
  for (at::Tensor& output : outputs_) {
    if (output.defined()) output = output.variable_data();
    autograd::set_history(output, node_);
  }
}

void Recomputation::discard_outputs(const at::Tensor& result) const {
  if (!node_) return;
  node_->discard(outputs_);
  if (result.requires_grad()) {
    result.register_hook([node = node_](const at::Tensor&) { node->run_again(); });
  }
}

}  // namespace megatron
