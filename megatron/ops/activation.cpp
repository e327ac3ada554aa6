// The fused activations: checks, autograd, dispatch, and the unfused versions.
#include "megatron/ops/activation.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/activation_kernels.h"
#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"

namespace megatron {

namespace {

using kernels::Activation;

class FusedActivation : public torch::autograd::Function<FusedActivation> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const std::optional<at::Tensor>& maybe_bias, int64_t activation,
                            const GluOptions* glu) {
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    context->save_for_backward({x, bias});
    context->saved_data["activation"] = activation;
    const bool gated = glu != nullptr;
    context->saved_data["gated"] = gated;
    if (gated) {
      context->saved_data["clamp_value"] = glu->clamp_value;
      context->saved_data["linear_offset"] = glu->linear_offset;
    }
    const at::Tensor rows = flatten_rows(x);
    const at::Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
    const int64_t f = gated ? x.size(-1) / 2 : x.size(-1);
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = f;
    at::Tensor y = at::empty(shape, x.options());
    dispatch_dtype(x.scalar_type(), [&](auto type) {
      using T = decltype(type);
      with_kernel_level([&](auto level) {
        kernels::activation_forward<level, T>(static_cast<Activation>(activation), glu,
                                              rows.const_data_ptr<T>(), data_or_null<T>(flat_bias),
                                              y.mutable_data_ptr<T>(), rows.size(0), f);
      });
    });
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& bias = saved[1];
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    const auto activation = static_cast<Activation>(context->saved_data["activation"].toInt());
    GluOptions glu;
    const bool gated = context->saved_data["gated"].toBool();
    if (gated) {
      glu = {context->saved_data["clamp_value"].toDouble(),
             context->saved_data["linear_offset"].toDouble()};
    }
    const at::Tensor grad_y = flatten_rows(gradients[0]);
    const at::Tensor rows = flatten_rows(x);
    const at::Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
    const RowBlocks blocks = row_blocks(rows.size(0));
    const bool needs_bias = bias.defined() && context->needs_input_grad(1);
    at::Tensor partials;
    if (needs_bias) partials = make_partial_sums(blocks, rows.size(1), rows);
    at::Tensor grad_x = at::empty(x.sizes(), x.options());
    dispatch_dtype(x.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      with_kernel_level([&](auto level) {
        kernels::activation_backward<level, T, A>(
            activation, gated ? &glu : nullptr, grad_y.const_data_ptr<T>(),
            rows.const_data_ptr<T>(), data_or_null<T>(flat_bias), grad_x.mutable_data_ptr<T>(),
            data_or_null<A>(partials), blocks, grad_y.size(1));
      });
    });
    at::Tensor grad_bias;
    if (needs_bias) grad_bias = reduce_partial_sums(partials, bias.scalar_type());
    return {grad_x, grad_bias, {}, {}};
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
                            const GluOptions* glu) {
  return FusedActivation::apply(x, optional_tensor(bias), static_cast<int64_t>(activation), glu);
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

}  // namespace unfused

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form) {
  check_activation(x, bias, /*gated=*/false, "bias_gelu");
  if (!use_cpu_kernel(x)) return unfused::bias_gelu(x, bias, tanh_form);
  return apply_activation(x, bias, tanh_form ? Activation::gelu_tanh : Activation::gelu, nullptr);
}

at::Tensor bias_squared_relu(const at::Tensor& x, const at::Tensor& bias) {
  check_activation(x, bias, /*gated=*/false, "bias_squared_relu");
  if (!use_cpu_kernel(x)) return unfused::bias_squared_relu(x, bias);
  return apply_activation(x, bias, Activation::squared_relu, nullptr);
}

at::Tensor bias_quick_gelu(const at::Tensor& x, const at::Tensor& bias) {
  check_activation(x, bias, /*gated=*/false, "bias_quick_gelu");
  if (!use_cpu_kernel(x)) return unfused::bias_quick_gelu(x, bias);
  return apply_activation(x, bias, Activation::quick_gelu, nullptr);
}

at::Tensor bias_swiglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu) {
  check_activation(x, bias, /*gated=*/true, "bias_swiglu");
  if (!use_cpu_kernel(x)) return unfused::bias_swiglu(x, bias, glu);
  return apply_activation(x, bias, Activation::silu, &glu);
}

at::Tensor bias_geglu(const at::Tensor& x, const at::Tensor& bias, bool tanh_form,
                      const GluOptions& glu) {
  check_activation(x, bias, /*gated=*/true, "bias_geglu");
  if (!use_cpu_kernel(x)) return unfused::bias_geglu(x, bias, tanh_form, glu);
  return apply_activation(x, bias, tanh_form ? Activation::gelu_tanh : Activation::gelu, &glu);
}

at::Tensor bias_quick_geglu(const at::Tensor& x, const at::Tensor& bias, const GluOptions& glu) {
  check_activation(x, bias, /*gated=*/true, "bias_quick_geglu");
  if (!use_cpu_kernel(x)) return unfused::bias_quick_geglu(x, bias, glu);
  return apply_activation(x, bias, Activation::quick_gelu, &glu);
}

}  // namespace megatron
