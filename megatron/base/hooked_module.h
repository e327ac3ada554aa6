// A module whose forward pass others may surround, to bring parameters that are not held all the
// time and to let them go.
#pragma once

#include <functional>

#include "megatron/base/megatron_module.h"

namespace megatron {

struct ForwardHooks {
  std::function<void()> before;                         // its parameters are about to be read
  std::function<void(const at::Tensor& output)> after;  // may register hooks on the output
};

class HookedModule : public MegatronModule {
 public:
  void set_forward_hooks(ForwardHooks hooks) { hooks_ = std::move(hooks); }

 protected:
  // What `forward` returns, between the hooks.
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
