// Optimizer steps and the gradient norm over flat buffers, one pass each. Elementwise, so that any
// division of a buffer among ranks gives the same numbers. Not differentiable.
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
  bool decoupled =
      true;          // AdamW: p -= lr * weight_decay * p; else weight_decay * p joins the gradient
  int64_t step = 1;  // number of this step, from 1
  double grad_scale = 1.0;  // multiplies the gradient first (clipping, loss unscaling)
};

// Adam (Kingma and Ba, 2015) with decoupled decay (Loshchilov and Hutter, 2019). With g the scaled
// gradient: m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// p -= lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps), after the decay.
//
// All tensors are contiguous and of one numel; master, exp_avg and exp_avg_sq of one dtype (fp32 or
// fp64); grad of that dtype or bf16. model_copy, where defined (fp32, fp64, bf16, fp16), receives
// the new master, cast.
void adam_step(at::Tensor& master, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
               const at::Tensor& grad, at::Tensor model_copy, const AdamArguments& arguments);

struct SgdArguments {
  double lr = 1e-3;
  double momentum = 0.0;
  double weight_decay = 0.0;  // L2: joins the gradient
  bool first_step = false;    // the momentum buffer starts as the gradient
  double grad_scale = 1.0;
};

// g += weight_decay p; buffer = momentum buffer + g (first step: g); p -= lr buffer.
// momentum_buffer may be undefined where momentum is 0.
void sgd_step(at::Tensor& master, at::Tensor& momentum_buffer, const at::Tensor& grad,
              at::Tensor model_copy, const SgdArguments& arguments);

// The sum of squares of a contiguous tensor, in fp64 over fixed blocks: it does not depend on the
// number of threads. Infinities and NaNs show in the result.
double squared_norm(const at::Tensor& flat);

namespace reference {
void adam_step(at::Tensor& master, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
               const at::Tensor& grad, at::Tensor model_copy, const AdamArguments& arguments);
void sgd_step(at::Tensor& master, at::Tensor& momentum_buffer, const at::Tensor& grad,
              at::Tensor model_copy, const SgdArguments& arguments);
}  // namespace reference

}  // namespace megatron
