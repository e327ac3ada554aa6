// A module with forward hooks, which FSDP uses to gather parameters before the forward pass and to
// free them after it.
#pragma once

#include <functional>
#include <map>

#include "megatron/base/megatron_module.h"

namespace megatron {

struct ForwardHooks {
  std::function<void()> before;                         // before the parameters are read
  std::function<void(const at::Tensor& output)> after;  // may register hooks on the output
};

class HookedModule : public MegatronModule {
 public:
  // Hooks run in the order in which they were added. Returns a number for remove_forward_hooks().
  int add_forward_hooks(ForwardHooks hooks) {
    hooks_.emplace(next_hooks_, std::move(hooks));
    return next_hooks_++;
  }
  void remove_forward_hooks(int number) { hooks_.erase(number); }

 protected:
  // Runs the hooks around `forward` and returns its output: a tensor, or several behind one autograd
  // node, of which the hooks get the first.
  template <typename Forward>
  auto with_hooks(const Forward& forward) const {
    for (const auto& [number, hooks] : hooks_) {
      if (hooks.before) hooks.before();
    }
    const auto output = forward();
    for (const auto& [number, hooks] : hooks_) {
      if (hooks.after) hooks.after(first_of(output));
    }
    return output;
  }

 private:
  static const at::Tensor& first_of(const at::Tensor& tensor) { return tensor; }
  static const at::Tensor& first_of(const std::vector<at::Tensor>& tensors) {
    return tensors.front();
  }

  std::map<int, ForwardHooks> hooks_;
  int next_hooks_ = 0;
};

}  // namespace megatron
