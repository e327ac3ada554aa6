// The fused activations: checks, autograd, dispatch, and the unfused versions.
#include "megatron/ops/activation.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/activation_kernels.h"
#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"

namespace megatron {

namespace {

using kernels::Activation;

// The kernels' forward, for x of a dtype and device that have kernels.
at::Tensor kernel_activation(const at::Tensor& x, const at::Tensor& bias,
                             const ActivationOptions& options) {
  const at::Tensor rows = flatten_rows(x);
  const at::Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
  const int64_t f = options.glu ? x.size(-1) / 2 : x.size(-1);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = f;
  at::Tensor y = at::empty(shape, x.options());
  dispatch_dtype_or_half(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::activation_forward<level, T>(options.function, options.glu ? &*options.glu : nullptr,
                                            rows.const_data_ptr<T>(), data_or_null<T>(flat_bias),
                                            y.mutable_data_ptr<T>(), rows.size(0), f);
    });
  });
  return y;
}

ActivationGradients kernel_activation_backward(const at::Tensor& grad_y, const at::Tensor& x,
                                               const at::Tensor& bias,
                                               const ActivationOptions& options, bool needs_bias,
                                               bool again) {
  const at::Tensor grad_rows = flatten_rows(grad_y), rows = flatten_rows(x);
  const at::Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
  const RowBlocks blocks = row_blocks(rows.size(0));
  at::Tensor partials;
  if (needs_bias) partials = make_partial_sums(blocks, rows.size(1), rows);
  ActivationGradients gradients;
  gradients.x = at::empty(x.sizes(), x.options());
  dispatch_dtype_or_half(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::activation_backward<level, T, A>(
          options.function, options.glu ? &*options.glu : nullptr, grad_rows.const_data_ptr<T>(),
          rows.const_data_ptr<T>(), data_or_null<T>(flat_bias), gradients.x.mutable_data_ptr<T>(),
          again ? grad_rows.mutable_data_ptr<T>() : nullptr, data_or_null<A>(partials), blocks,
          grad_rows.size(1));
    });
  });
  if (needs_bias) gradients.bias = reduce_partial_sums(partials, bias.scalar_type());
  return gradients;
}

// ActivationOptions of a node.
struct ActivationState : torch::CustomClassHolder {
  ActivationOptions options;
};

class FusedActivation : public torch::autograd::Function<FusedActivation> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const std::optional<at::Tensor>& maybe_bias,
                            const ActivationOptions& options) {
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    context->save_for_backward({x, bias});
    auto state = c10::make_intrusive<ActivationState>();
    state->options = options;
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return kernel_activation(x, bias, options);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &bias = saved[1];
    const auto state = c10::static_intrusive_pointer_cast<ActivationState>(
        context->saved_data["state"].toCapsule());
    const bool needs_bias = bias.defined() && context->needs_input_grad(1);
    const ActivationGradients result = kernel_activation_backward(
        gradients[0], x, bias, state->options, needs_bias, /*again=*/false);
    return {result.x, result.bias, {}};
  }
};

void check_activation(const at::Tensor& x, const at::Tensor& bias, bool gated,
                      std::string_view operation) {
  check_floating(x, operation, "x");
  check(x.dim() >= 1, "{}: Expected x of at least 1 dimension, but got a scalar", operation);
  check(!gated || x.size(-1) % 2 == 0,
        "{}: Expected x with an even last dimension (gate and up-projection), but got {}",
        operation, x.size(-1));
  if (!bias.defined()) return;
  check_shape(bias, {x.size(-1)}, operation, "bias");
  check_alike(bias, x, operation, "bias");
}

at::Tensor add_bias(const at::Tensor& x, const at::Tensor& bias) {
  const auto wide = x.to(accumulation_dtype(x.scalar_type()));
  return bias.defined() ? wide + bias.to(wide.scalar_type()) : wide;
}

std::string_view gelu_form(bool tanh_form) {
  return tanh_form ? "tanh" : "none";
}

at::Tensor quick_gelu(const at::Tensor& x) {
  return x * at::sigmoid(1.702 * x);
}

// A gated linear unit of libtorch operators.
template <typename Function>
at::Tensor unfused_glu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu,
                       const Function& function) {
  const auto halves = add_bias(x, bias).chunk(2, -1);
  const at::Tensor gate = at::clamp(halves[0], std::nullopt, glu.clamp_value);
  const at::Tensor up = at::clamp(halves[1], -glu.clamp_value, glu.clamp_value);
  return (function(gate) * (up + glu.linear_offset)).to(x.scalar_type());
}

at::Tensor apply_activation(const at::Tensor& x, const at::Tensor& bias, Activation activation,
                            const std::optional<GluOptions>& glu = {}) {
  return FusedActivation::apply(x, optional_tensor(bias), ActivationOptions{activation, glu});
}

std::string_view activation_name(const ActivationOptions& options) {
  const bool gated = options.glu.has_value();
  switch (options.function) {
    case Activation::gelu:
    case Activation::gelu_tanh:
      return gated ? "bias_geglu" : "bias_gelu";
    case Activation::squared_relu:
      return "bias_squared_relu";
    case Activation::silu:
      return "bias_swiglu";
    case Activation::quick_gelu:
      return gated ? "bias_quick_geglu" : "bias_quick_gelu";
  }
  fail("Expected a known activation function");
}

}  // namespace

namespace unfused {

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form) {
  return at::gelu(add_bias(x, bias), gelu_form(tanh_form)).to(x.scalar_type());
}

at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias) {
  const at::Tensor positive = at::relu(add_bias(x, bias));
  return (positive * positive).to(x.scalar_type());
}

at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias) {
  return quick_gelu(add_bias(x, bias)).to(x.scalar_type());
}

at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu) {
  return unfused_glu(x, bias, glu, [](const at::Tensor& gate) { return at::silu(gate); });
}

at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GluOptions& glu) {
  return unfused_glu(x, bias, glu,
                     [&](const at::Tensor& gate) { return at::gelu(gate, gelu_form(tanh_form)); });
}

at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu) {
  return unfused_glu(x, bias, glu, quick_gelu);
}

at::Tensor bias_activation(const at::Tensor& x, const at::Tensor& bias,
                           const ActivationOptions& options) {
  const bool tanh_form = options.function == Activation::gelu_tanh;
  switch (options.function) {
    case Activation::gelu:
    case Activation::gelu_tanh:
      return options.glu ? bias_geglu(x, bias, tanh_form, *options.glu)
                         : bias_gelu(x, bias, tanh_form);
    case Activation::squared_relu:
      check(!options.glu, "Expected squared_relu without a gated linear unit, but got one");
      return bias_squared_relu(x, bias);
    case Activation::silu:
      check(options.glu.has_value(), "Expected a gated linear unit for silu, but got none");
      return bias_swiglu(x, bias, *options.glu);
    case Activation::quick_gelu:
      return options.glu ? bias_quick_geglu(x, bias, *options.glu) : bias_quick_gelu(x, bias);
  }
  fail("Expected a known activation function");
}

}  // namespace unfused

at::Tensor bias_activation(const at::Tensor& x, const at::Tensor& bias,
                           const ActivationOptions& options) {
  check_activation(x, bias, options.glu.has_value(), activation_name(options));
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_activation(x, bias, options);
  return apply_activation(x, bias, options.function, options.glu);
}

at::Tensor bias_activation_forward(const at::Tensor& x, const at::Tensor& bias,
                                   const ActivationOptions& options) {
  check_activation(x, bias, options.glu.has_value(), activation_name(options));
  const at::NoGradGuard no_grad;
  return use_cpu_kernel_or_half(x) ? kernel_activation(x, bias, options)
                                   : unfused::bias_activation(x, bias, options);
}

ActivationGradients bias_activation_backward(at::Tensor& grad_y, const at::Tensor& x,
                                             const at::Tensor& bias,
                                             const ActivationOptions& options, bool needs_bias,
                                             bool again) {
  if (use_cpu_kernel_or_half(x)) {
    const at::NoGradGuard no_grad;
    grad_y = grad_y.contiguous();
    return kernel_activation_backward(grad_y, x, bias, options, needs_bias, again);
  }
  const at::AutoGradMode grad_mode(true);
  const at::Tensor input = x.detach().requires_grad_();
  const at::Tensor shift = needs_bias ? bias.detach().requires_grad_() : bias;
  const at::Tensor y = unfused::bias_activation(input, shift, options);
  const auto results = torch::autograd::grad(
      {y}, needs_bias ? std::vector<at::Tensor>{input, shift} : std::vector<at::Tensor>{input},
      {grad_y});
  if (again) grad_y = y.detach();
  return {results[0], needs_bias ? results[1] : at::Tensor()};
}

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form) {
  check_activation(x, bias, /*gated=*/false, "bias_gelu");
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_gelu(x, bias, tanh_form);
  return apply_activation(x, bias, tanh_form ? Activation::gelu_tanh : Activation::gelu);
}

at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias) {
  check_activation(x, bias, /*gated=*/false, "bias_squared_relu");
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_squared_relu(x, bias);
  return apply_activation(x, bias, Activation::squared_relu);
}

at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias) {
  check_activation(x, bias, /*gated=*/false, "bias_quick_gelu");
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_quick_gelu(x, bias);
  return apply_activation(x, bias, Activation::quick_gelu);
}

at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu) {
  check_activation(x, bias, /*gated=*/true, "bias_swiglu");
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_swiglu(x, bias, glu);
  return apply_activation(x, bias, Activation::silu, glu);
}

at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GluOptions& glu) {
  check_activation(x, bias, /*gated=*/true, "bias_geglu");
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_geglu(x, bias, tanh_form, glu);
  return apply_activation(x, bias, tanh_form ? Activation::gelu_tanh : Activation::gelu, glu);
}

at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu) {
  check_activation(x, bias, /*gated=*/true, "bias_quick_geglu");
  if (!use_cpu_kernel_or_half(x)) return unfused::bias_quick_geglu(x, bias, glu);
  return apply_activation(x, bias, Activation::quick_gelu, glu);
}

}  // namespace megatron
