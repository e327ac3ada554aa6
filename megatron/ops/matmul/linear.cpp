#include "megatron/ops/matmul/linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/matmul/matmul.h"
#include "megatron/ops/matmul/matmul_accumulate.h"

namespace megatron {

namespace {

// rows [..., k], matrix [k, n] -> rows matrix (+ bias) [..., n]
at::Tensor multiply_rows(const at::Tensor& rows, const at::Tensor& matrix, const at::Tensor& bias) {
  std::vector<int64_t> shape = rows.sizes().vec();
  shape.back() = matrix.size(1);
  return matmul(flatten_rows(rows), matrix, bias).view(shape);
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& weight_main_grad) {
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight});
    // Not a saved variable: other micro-batches modify the buffer before this backward.
    context->saved_data["weight_main_grad"] = weight_main_grad.value_or(at::Tensor());
    context->saved_data["has_bias"] = bias.has_value();
    return linear_forward(x, weight, bias.value_or(at::Tensor()));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& weight = saved[1];
    const at::Tensor grad_y = flatten_rows(gradients[0]);
    at::Tensor grad_x, grad_weight, grad_bias;
    if (context->needs_input_grad(0)) {
      grad_x = linear_input_gradient(gradients[0], weight);
    }
    if (context->needs_input_grad(1)) {
      const at::IValue& saved_main_grad = context->saved_data["weight_main_grad"];
      at::Tensor main_grad = saved_main_grad.toTensor();
      if (main_grad.defined()) {
        accumulate_weight_gradient(main_grad, grad_y, flatten_rows(x));
      } else {
        grad_weight = at::mm(grad_y.t(), flatten_rows(x));
      }
    }
    // needs_input_grad counts defined inputs only, so index 2 is the bias if there is one.
    const bool has_bias = context->saved_data["has_bias"].toBool();
    if (has_bias && context->needs_input_grad(2)) grad_bias = column_sum(grad_y);
    return {grad_x, grad_weight, grad_bias, {}};
  }
};

}  // namespace

at::Tensor linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return multiply_rows(x, weight.t(), bias);
}

at::Tensor linear_input_gradient(const at::Tensor& grad_output, const at::Tensor& weight) {
  return multiply_rows(grad_output, weight, {});
}

void accumulate_weight_gradient(at::Tensor& main_grad, const at::Tensor& grad_output,
                                const at::Tensor& x) {
  constexpr std::string_view operation = "accumulate_weight_gradient";
  check_floating(grad_output, operation, "grad_output");
  check_alike(x, grad_output, operation, "x");
  check_alike(main_grad, grad_output, operation, "main_grad", /*dtype=*/false);
  check(x.dim() >= 1 && x.dim() == grad_output.dim() &&
            x.sizes().slice(0, x.dim() - 1) == grad_output.sizes().slice(0, x.dim() - 1),
        "{}: Expected x and grad_output with the same leading dimensions, but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(grad_output.sizes(), ", "));
  check_shape(main_grad, {grad_output.size(-1), x.size(-1)}, operation, "main_grad");
  matmul_accumulate(main_grad, flatten_rows(grad_output.detach()).t(), flatten_rows(x.detach()));
}

std::optional<at::Tensor> checked_main_grad(const at::Tensor& weight, const at::Tensor& main_grad) {
  if (!main_grad.defined()) return std::nullopt;
  constexpr std::string_view operation = "linear";
  check_shape(main_grad, weight.sizes(), operation, "weight_main_grad");
  check_alike(main_grad, weight, operation, "weight_main_grad", /*dtype=*/false);
  const auto wide = accumulation_dtype(weight.scalar_type());
  const auto dtype = main_grad.scalar_type();
  check(main_grad.is_contiguous() && (dtype == weight.scalar_type() || dtype == wide),
        "{}: Expected a contiguous weight_main_grad of dtype {} or {}, but got {}{}", operation,
        dtype_name(weight.scalar_type()), dtype_name(wide),
        main_grad.is_contiguous() ? "" : "a strided view of ", c10::toString(dtype));
  return main_grad.detach();
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  const at::Tensor& weight_main_grad) {
  constexpr std::string_view operation = "linear";
  check_floating(x, operation, "x");
  check_alike(weight, x, operation, "weight");
  check(x.dim() >= 1 && weight.dim() == 2 && weight.size(1) == x.size(-1),
        "{}: Expected weight of shape [out, {}], but got [{}]", operation,
        x.dim() == 0 ? 0 : x.size(-1), fmt::join(weight.sizes(), ", "));
  if (bias.defined()) {
    check_shape(bias, {weight.size(0)}, operation, "bias");
    check_alike(bias, x, operation, "bias");
  }
  return LinearFunction::apply(x, weight, optional_tensor(bias),
                               checked_main_grad(weight, weight_main_grad));
}

}  // namespace megatron
