// LayerNorm and RMSNorm: checks, autograd, dispatch, and the unfused versions.
#include "megatron/ops/norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/norm_kernels.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// LayerNorm, or RMSNorm if bias is undefined.
class NormFunction : public torch::autograd::Function<NormFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& maybe_bias, double eps) {
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    const bool centred = bias.defined();
    const at::Tensor rows = flatten_rows(x);
    const auto dtype = accumulation_dtype(x.scalar_type());
    const at::Tensor wide_weight = weight.to(dtype).contiguous();
    const at::Tensor wide_bias = centred ? bias.to(dtype).contiguous() : bias;
    at::Tensor mean;
    if (centred) mean = at::empty({rows.size(0)}, x.options().dtype(dtype));
    at::Tensor rstd = at::empty({rows.size(0)}, x.options().dtype(dtype));
    at::Tensor y = at::empty(x.sizes(), x.options());
    dispatch_dtype_or_half(x.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      with_kernel_level([&](auto level) {
        kernels::norm_forward<level, T, A>(
            centred, rows.const_data_ptr<T>(), wide_weight.const_data_ptr<A>(),
            data_or_null<A>(wide_bias), static_cast<A>(eps), y.mutable_data_ptr<T>(),
            data_or_null<A>(mean), rstd.mutable_data_ptr<A>(), rows.size(0), rows.size(1));
      });
    });
    context->save_for_backward({x, weight, mean, rstd});
    context->saved_data["bias_dtype"] =
        static_cast<int64_t>((centred ? bias : weight).scalar_type());
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& weight = saved[1];
    const at::Tensor& mean = saved[2];
    const at::Tensor& rstd = saved[3];
    const bool centred = mean.defined();
    const auto bias_dtype = static_cast<at::ScalarType>(context->saved_data["bias_dtype"].toInt());
    const at::Tensor rows = flatten_rows(x);
    const at::Tensor grad_y = flatten_rows(gradients[0]);
    const at::Tensor wide_weight = weight.to(accumulation_dtype(x.scalar_type())).contiguous();
    const RowBlocks blocks = row_blocks(rows.size(0));
    at::Tensor weight_partials = make_partial_sums(blocks, rows.size(1), rows);
    at::Tensor bias_partials;
    if (centred) bias_partials = make_partial_sums(blocks, rows.size(1), rows);
    at::Tensor grad_x = at::empty(x.sizes(), x.options());
    dispatch_dtype_or_half(x.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      with_kernel_level([&](auto level) {
        kernels::norm_backward<level, T, A>(
            centred, grad_y.const_data_ptr<T>(), rows.const_data_ptr<T>(),
            wide_weight.const_data_ptr<A>(), /*bias=*/nullptr, data_or_null<A>(mean),
            rstd.const_data_ptr<A>(), grad_x.mutable_data_ptr<T>(), /*y=*/nullptr,
            weight_partials.mutable_data_ptr<A>(), data_or_null<A>(bias_partials), blocks,
            rows.size(1));
      });
    });
    at::Tensor grad_weight, grad_bias;
    if (context->needs_input_grad(1)) {
      grad_weight = reduce_partial_sums(weight_partials, weight.scalar_type());
    }
    if (centred && context->needs_input_grad(2)) {
      grad_bias = reduce_partial_sums(bias_partials, bias_dtype);
    }
    return {grad_x, grad_weight, grad_bias, {}};
  }
};

void check_parameter(const at::Tensor& parameter, const at::Tensor& x, std::string_view operation,
                     std::string_view name) {
  check_floating(x, operation, "x");
  check(x.dim() >= 1 && x.size(-1) > 0,
        "{}: Expected x with a last dimension of at least 1, but got [{}]", operation,
        fmt::join(x.sizes(), ", "));
  check_shape(parameter, {x.size(-1)}, operation, name);
  check_alike(parameter, x, operation, name, /*dtype=*/false);
  const auto dtype = parameter.scalar_type();
  check(dtype == x.scalar_type() || dtype == accumulation_dtype(x.scalar_type()),
        "{}: Expected {} of dtype {} or {}, but got {}", operation, name,
        dtype_name(x.scalar_type()), dtype_name(accumulation_dtype(x.scalar_type())),
        dtype_name(dtype));
}

}  // namespace

namespace unfused {

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  const at::Tensor wide = x.to(accumulation_dtype(x.scalar_type()));
  const at::Tensor centred = wide - wide.mean(-1, /*keepdim=*/true);
  const at::Tensor variance = (centred * centred).mean(-1, /*keepdim=*/true);
  return (centred * at::rsqrt(variance + eps) * weight + bias).to(x.scalar_type());
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(accumulation_dtype(x.scalar_type()));
  const at::Tensor square = (wide * wide).mean(-1, /*keepdim=*/true);
  return (wide * at::rsqrt(square + eps) * weight).to(x.scalar_type());
}

}  // namespace unfused

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  check_parameter(weight, x, "layer_norm", "weight");
  check_parameter(bias, x, "layer_norm", "bias");
  if (!use_cpu_kernel_or_half(x)) return unfused::layer_norm(x, weight, bias, eps);
  return NormFunction::apply(x, weight, optional_tensor(bias), eps);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_parameter(weight, x, "rms_norm", "weight");
  if (!use_cpu_kernel_or_half(x)) return unfused::rms_norm(x, weight, eps);
  return NormFunction::apply(x, weight, std::optional<at::Tensor>(), eps);
}

}  // namespace megatron
