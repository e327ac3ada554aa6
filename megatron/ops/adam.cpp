// Optimizer steps and the squared norm: checks, dispatch, and the unfused versions.
#include "megatron/ops/adam.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/adam_kernels.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

namespace {

// A state tensor has master's dtype, device and numel, and is contiguous.
void check_state(const at::Tensor& state, const at::Tensor& master, std::string_view operation,
                 std::string_view name) {
  check_alike(state, master, operation, name);
  check(state.numel() == master.numel() && state.is_contiguous(),
        "{}: Expected {} as {} contiguous elements, but got {}{}", operation, name, master.numel(),
        state.numel(), state.is_contiguous() ? "" : " in a strided view");
}

void check_step(const at::Tensor& master, const at::Tensor& grad, const at::Tensor& model_copy,
                std::string_view operation) {
  check_floating(master, operation, "master");
  check(master.scalar_type() == at::kFloat || master.scalar_type() == at::kDouble,
        "{}: Expected master of dtype fp32 or fp64, but got {}", operation,
        c10::toString(master.scalar_type()));
  check_state(master, master, operation, "master");
  check_floating(grad, operation, "grad");
  check_alike(grad, master, operation, "grad", /*dtype=*/false);
  check(grad.numel() == master.numel() && grad.is_contiguous(),
        "{}: Expected grad as {} contiguous elements, but got {}{}", operation, master.numel(),
        grad.numel(), grad.is_contiguous() ? "" : " in a strided view");
  if (!model_copy.defined()) return;
  check_floating(model_copy, operation, "model_copy");
  check_alike(model_copy, master, operation, "model_copy", /*dtype=*/false);
  check(model_copy.numel() == master.numel() && model_copy.is_contiguous(),
        "{}: Expected model_copy as {} contiguous elements, but got {}{}", operation,
        master.numel(), model_copy.numel(), model_copy.is_contiguous() ? "" : " in a strided view");
}

// Calls body(A{}, G{}, C{}, grad, model_copy) with types that have a kernel. A gradient of another
// dtype is converted before the step; a model copy of another dtype is filled after it.
template <typename Body>
void with_step_types(const at::Tensor& master, const at::Tensor& grad, at::Tensor model_copy,
                     const Body& body) {
  const bool bf16_grad = grad.scalar_type() == at::kBFloat16 && master.scalar_type() == at::kFloat;
  const at::Tensor gradient = bf16_grad ? grad.detach() : grad.detach().to(master.scalar_type());
  const bool wide_master = master.scalar_type() == at::kFloat;
  const bool bf16_copy =
      wide_master && model_copy.defined() && model_copy.scalar_type() == at::kBFloat16;
  const bool half_copy =
      wide_master && !bf16_grad && model_copy.defined() && model_copy.scalar_type() == at::kHalf;
  const bool same_copy = model_copy.defined() && model_copy.scalar_type() == master.scalar_type();
  at::Tensor direct = bf16_copy || half_copy || same_copy ? model_copy.detach() : at::Tensor();
  if (master.scalar_type() == at::kDouble) {
    body(double{}, double{}, double{}, gradient, direct);
  } else if (bf16_grad) {
    bf16_copy ? body(float{}, c10::BFloat16{}, c10::BFloat16{}, gradient, direct)
              : body(float{}, c10::BFloat16{}, float{}, gradient, direct);
  } else if (half_copy) {
    body(float{}, float{}, c10::Half{}, gradient, direct);
  } else {
    bf16_copy ? body(float{}, float{}, c10::BFloat16{}, gradient, direct)
              : body(float{}, float{}, float{}, gradient, direct);
  }
  if (model_copy.defined() && !direct.defined()) {
    model_copy.detach().copy_(master.detach().view(model_copy.sizes()));
  }
}

void check_adam(const at::Tensor& master, const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq,
                const at::Tensor& grad, const at::Tensor& model_copy,
                const AdamArguments& arguments) {
  check_step(master, grad, model_copy, "adam_step");
  check_state(exp_avg, master, "adam_step", "exp_avg");
  check_state(exp_avg_sq, master, "adam_step", "exp_avg_sq");
  check(arguments.step >= 1, "adam_step: Expected a step of at least 1, but got {}",
        arguments.step);
  check(arguments.beta1 >= 0 && arguments.beta1 < 1 && arguments.beta2 >= 0 && arguments.beta2 < 1,
        "adam_step: Expected beta1 and beta2 of at least 0 and below 1, but got {} and {}",
        arguments.beta1, arguments.beta2);
}

void check_sgd(const at::Tensor& master, const at::Tensor& momentum_buffer, const at::Tensor& grad,
               const at::Tensor& model_copy, const SgdArguments& arguments) {
  check_step(master, grad, model_copy, "sgd_step");
  check(arguments.momentum == 0 || momentum_buffer.defined(),
        "sgd_step: Expected a momentum_buffer for momentum {}, but got none", arguments.momentum);
  if (momentum_buffer.defined())
    check_state(momentum_buffer, master, "sgd_step", "momentum_buffer");
}

}  // namespace

namespace unfused {

void adam_step(at::Tensor& master, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
               const at::Tensor& grad, at::Tensor model_copy, const AdamArguments& arguments) {
  check_adam(master, exp_avg, exp_avg_sq, grad, model_copy, arguments);
  at::Tensor p = master.detach().view({-1}), m = exp_avg.detach().view({-1}),
             v = exp_avg_sq.detach().view({-1});
  at::Tensor g = grad.detach().view({-1}).to(p.scalar_type()) * arguments.grad_scale;
  if (arguments.decoupled) {
    p.mul_(1 - arguments.lr * arguments.weight_decay);
  } else {
    g = g + p * arguments.weight_decay;
  }
  m.mul_(arguments.beta1).add_(g, 1 - arguments.beta1);
  v.mul_(arguments.beta2).add_(g * g, 1 - arguments.beta2);
  const double correction1 = 1 - std::pow(arguments.beta1, arguments.step);
  const double correction2 = 1 - std::pow(arguments.beta2, arguments.step);
  p.sub_((m / correction1) / ((v / correction2).sqrt() + arguments.eps) * arguments.lr);
  if (model_copy.defined()) model_copy.detach().copy_(p.view(model_copy.sizes()));
}

void sgd_step(at::Tensor& master, at::Tensor& momentum_buffer, const at::Tensor& grad,
              at::Tensor model_copy, const SgdArguments& arguments) {
  check_sgd(master, momentum_buffer, grad, model_copy, arguments);
  at::Tensor p = master.detach().view({-1});
  at::Tensor g = grad.detach().view({-1}).to(p.scalar_type()) * arguments.grad_scale +
                 p * arguments.weight_decay;
  if (momentum_buffer.defined()) {
    at::Tensor buffer = momentum_buffer.detach().view({-1});
    if (arguments.first_step) {
      buffer.copy_(g);
    } else {
      buffer.mul_(arguments.momentum).add_(g);
    }
    g = buffer;
  }
  p.sub_(g * arguments.lr);
  if (model_copy.defined()) model_copy.detach().copy_(p.view(model_copy.sizes()));
}

}  // namespace unfused

void adam_step(at::Tensor& master, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
               const at::Tensor& grad, at::Tensor model_copy, const AdamArguments& arguments) {
  check_adam(master, exp_avg, exp_avg_sq, grad, model_copy, arguments);
  if (!master.is_cpu()) {
    return unfused::adam_step(master, exp_avg, exp_avg_sq, grad, model_copy, arguments);
  }
  const double step = static_cast<double>(arguments.step);
  const kernels::AdamScalars scalars{
      .decay = arguments.decoupled ? 1 - arguments.lr * arguments.weight_decay : 1.0,
      .l2 = arguments.decoupled ? 0.0 : arguments.weight_decay,
      .beta1 = arguments.beta1,
      .beta2 = arguments.beta2,
      .rate = arguments.lr / (1 - std::pow(arguments.beta1, step)),
      .correction = 1 / (1 - std::pow(arguments.beta2, step)),
      .eps = arguments.eps,
      .grad_scale = arguments.grad_scale};
  with_step_types(master, grad, model_copy,
                  [&](auto a, auto g, auto c, const at::Tensor& gradient, at::Tensor& copy) {
                    using A = decltype(a);
                    using G = decltype(g);
                    using C = decltype(c);
                    with_kernel_level([&](auto level) {
                      kernels::adam<level, A, G, C>(
                          master.numel(), static_cast<A*>(master.data_ptr()),
                          static_cast<A*>(exp_avg.data_ptr()),
                          static_cast<A*>(exp_avg_sq.data_ptr()), gradient.const_data_ptr<G>(),
                          data_or_null<C>(copy), scalars);
                    });
                  });
}

void sgd_step(at::Tensor& master, at::Tensor& momentum_buffer, const at::Tensor& grad,
              at::Tensor model_copy, const SgdArguments& arguments) {
  check_sgd(master, momentum_buffer, grad, model_copy, arguments);
  if (!master.is_cpu()) {
    return unfused::sgd_step(master, momentum_buffer, grad, model_copy, arguments);
  }
  const kernels::SgdScalars scalars{.lr = arguments.lr,
                                    .momentum = arguments.momentum,
                                    .l2 = arguments.weight_decay,
                                    .first_step = arguments.first_step,
                                    .grad_scale = arguments.grad_scale};
  with_step_types(master, grad, model_copy,
                  [&](auto a, auto g, auto c, const at::Tensor& gradient, at::Tensor& copy) {
                    using A = decltype(a);
                    using G = decltype(g);
                    using C = decltype(c);
                    with_kernel_level([&](auto level) {
                      kernels::sgd<level, A, G, C>(
                          master.numel(), static_cast<A*>(master.data_ptr()),
                          data_or_null<A>(momentum_buffer), gradient.const_data_ptr<G>(),
                          data_or_null<C>(copy), scalars);
                    });
                  });
}

double squared_norm(const at::Tensor& flat) {
  check_floating(flat, "squared_norm", "the tensor");
  check(flat.is_contiguous(), "squared_norm: Expected a contiguous tensor, but got a strided view");
  at::Tensor values = flat.detach();
  if (!use_cpu_kernel_or_half(values)) {
    const at::Tensor wide = values.to(at::kDouble);
    return (wide * wide).sum().item<double>();
  }
  std::vector<double> sums(ceil_div(values.numel(), kernels::kNormBlock));
  dispatch_dtype_or_half(values.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::block_square_sums<level, T>(values.numel(), values.const_data_ptr<T>(), sums.data());
    });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace megatron
