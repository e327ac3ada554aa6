// A module with forward hooks, which FSDP uses to gather parameters before the forward pass and to
// free them after it.
#pragma once

#include <functional>

#include "megatron/base/megatron_module.h"

namespace megatron {

struct ForwardHooks {
  std::function<void()> before;                         // before the parameters are read
  std::function<void(const at::Tensor& output)> after;  // may register hooks on the output
};

class HookedModule : public MegatronModule {
 public:
  void set_forward_hooks(ForwardHooks hooks) { hooks_ = std::move(hooks); }

 protected:
  // Runs the hooks around `forward` and returns its output.
  template <typename Forward>
  at::Tensor with_hooks(const Forward& forward) const {
    if (hooks_.before) hooks_.before();
    const at::Tensor output = forward();
    if (hooks_.after) hooks_.after(output);
    return output;
  }

 private:
  ForwardHooks hooks_;
};

}  // namespace megatron
