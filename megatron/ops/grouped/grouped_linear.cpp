#include "megatron/ops/grouped/grouped_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/grouped/grouped_gemm.h"
#include "megatron/ops/matmul/linear.h"

namespace megatron {

namespace {

class GroupedLinearFunction : public torch::autograd::Function<GroupedLinearFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& counts, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& weight_main_grad) {
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), counts, weight});
    // Not a saved variable: other micro-batches modify the buffer before this backward.
    context->saved_data["weight_main_grad"] = weight_main_grad.value_or(at::Tensor());
    context->saved_data["needs_bias"] = bias.has_value() && bias->requires_grad();
    return grouped_gemm(x, counts, weight, bias.value_or(at::Tensor()));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return torch::autograd::variable_list(5);
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &counts = saved[1], &weight = saved[2];
    const at::Tensor grad_y = gradients[0].contiguous();
    at::Tensor grad_x, grad_weight, grad_bias;
    if (context->needs_input_grad(0)) grad_x = grouped_gemm_input_gradient(grad_y, counts, weight);
    if (x.defined()) {
      const at::IValue& saved_main_grad = context->saved_data["weight_main_grad"];
      at::Tensor main_grad = saved_main_grad.toTensor();
      if (main_grad.defined()) {
        accumulate_grouped_weight_gradient(main_grad, grad_y, x, counts);
      } else {
        grad_weight = grouped_weight_gradient(grad_y, x, counts);
      }
    }
    if (context->saved_data["needs_bias"].toBool()) {
      grad_bias = grouped_bias_gradient(grad_y, counts);
    }
    return {grad_x, {}, grad_weight, grad_bias, {}};
  }
};

}  // namespace

at::Tensor grouped_linear(const at::Tensor& x, const at::Tensor& counts, const at::Tensor& weight,
                          const at::Tensor& bias, const at::Tensor& weight_main_grad) {
  check_floating(x, "grouped_linear", "x");
  check_floating(weight, "grouped_linear", "weight");
  return GroupedLinearFunction::apply(x, counts, weight, optional_tensor(bias),
                                      checked_main_grad(weight, weight_main_grad));
}

}  // namespace megatron
