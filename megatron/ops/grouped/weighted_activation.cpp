#include "megatron/ops/grouped/weighted_activation.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

namespace unfused {

at::Tensor weighted_activation(const at::Tensor& hidden, const at::Tensor& probs,
                               const ActivationOptions& options) {
  const auto wide = accumulation_dtype(hidden.scalar_type());
  at::Tensor y = unfused::bias_activation(hidden.to(wide), /*bias=*/{}, options);
  if (probs.defined()) y = y * probs.to(wide).unsqueeze(1);
  return y.to(hidden.scalar_type());
}

}  // namespace unfused

at::Tensor weighted_activation(const at::Tensor& hidden, const at::Tensor& probs,
                               const ActivationOptions& options) {
  const at::NoGradGuard no_grad;
  return unfused::weighted_activation(hidden, probs, options);
}

WeightedActivationGradients weighted_activation_backward(const at::Tensor& grad_output,
                                                         const at::Tensor& hidden,
                                                         const at::Tensor& probs,
                                                         const ActivationOptions& options) {
  const at::AutoGradMode grad_mode(true);
  const auto wide = accumulation_dtype(hidden.scalar_type());
  std::vector<at::Tensor> inputs{hidden.detach().requires_grad_()};
  if (probs.defined()) inputs.push_back(probs.detach().to(wide).requires_grad_());
  const at::Tensor output =
      unfused::weighted_activation(inputs[0], probs.defined() ? inputs[1] : at::Tensor(), options);
  const auto gradients = torch::autograd::grad({output}, inputs, {grad_output});
  return {gradients[0], probs.defined() ? gradients[1] : at::Tensor(), output.detach()};
}

}  // namespace megatron
