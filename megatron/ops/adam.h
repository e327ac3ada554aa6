// Optimizer steps and the squared norm over flat buffers, each in one pass. The steps are
// elementwise, so the numbers do not depend on how a buffer is sharded. Not differentiable.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

struct AdamArguments {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  // true: AdamW, p -= lr * weight_decay * p. false: weight_decay * p is added to the gradient (L2).
  bool decoupled = true;
  int64_t step = 1;         // the first step is 1
  double grad_scale = 1.0;  // the gradient is multiplied by it first (clipping, loss unscaling)
};

// Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019). With g the
// scaled gradient, and after the decay:
//   m = beta1 m + (1 - beta1) g
//   v = beta2 v + (1 - beta2) g^2
//   p -= lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
//
// All tensors are contiguous and have the same numel. master, exp_avg and exp_avg_sq have one
// dtype, fp32 or fp64; grad has that dtype or bf16. model_copy, if defined (fp32, fp64, bf16 or
// fp16), receives the new master, cast to its dtype.
void adam_step(at::Tensor& master, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
               const at::Tensor& grad, at::Tensor model_copy, const AdamArguments& arguments);

struct SgdArguments {
  double lr = 1e-3;
  double momentum = 0.0;
  double weight_decay = 0.0;  // L2: weight_decay * p is added to the gradient
  bool first_step = false;    // the momentum buffer is initialised with the gradient
  double grad_scale = 1.0;    // the gradient is multiplied by it first
};

// With g the scaled gradient: g += weight_decay p; buffer = momentum buffer + g (first step: g);
// p -= lr buffer. momentum_buffer may be undefined if momentum is 0.
void sgd_step(at::Tensor& master, at::Tensor& momentum_buffer, const at::Tensor& grad,
              at::Tensor model_copy, const SgdArguments& arguments);

// The sum of squares of a contiguous tensor, in fp64. On the CPU it is summed over fixed blocks, so
// it does not depend on the number of threads. Infinities and NaNs propagate to the result.
double squared_norm(const at::Tensor& flat);

// The same steps composed of libtorch operators, which run on every device.
namespace unfused {
void adam_step(at::Tensor& master, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
               const at::Tensor& grad, at::Tensor model_copy, const AdamArguments& arguments);
void sgd_step(at::Tensor& master, at::Tensor& momentum_buffer, const at::Tensor& grad,
              at::Tensor model_copy, const SgdArguments& arguments);
}  // namespace unfused

}  // namespace megatron
