#include "megatron/tensor_parallel/row_parallel_linear_function.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/tensor_parallel/all_gather_matmul.h"
#include "megatron/tensor_parallel/matmul_reduce_scatter.h"

namespace megatron {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class RowParallelLinearFunction : public torch::autograd::Function<RowParallelLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& main_grad, const ProcessGroup* tp) {
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight});
    // Not a saved variable: other micro-batches modify the buffer before this backward.
    context->saved_data["main_grad"] = main_grad.value_or(at::Tensor());
    context->saved_data["tp"] = reinterpret_cast<int64_t>(tp);
    return MatmulReduceScatter(x, weight.t(), *tp).wait();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const auto* tp = reinterpret_cast<const ProcessGroup*>(context->saved_data["tp"].toInt());
    at::Tensor main_grad = context->saved_data["main_grad"].toTensor();
    const bool needs_weight = context->needs_input_grad(1);

    at::Tensor grad_y, grad_x, grad_weight;  // grad_y [s, b, out], gathered
    if (context->needs_input_grad(0)) {
      AllGatherMatmul result = all_gather_matmul(gradients[0], weight, /*bias=*/{}, *tp);
      grad_y = std::move(result.gathered);
      grad_x = std::move(result.output);
    } else if (needs_weight) {
      grad_y = tp->all_gather(gradients[0]);
    }
    if (needs_weight && main_grad.defined()) {
      accumulate_weight_gradient(main_grad, flatten_rows(grad_y), flatten_rows(x));
    } else if (needs_weight) {
      grad_weight = at::mm(flatten_rows(grad_y).t(), flatten_rows(x));
    }
    return {grad_x, grad_weight, {}, {}};
  }
};

}  // namespace

at::Tensor overlapped_row_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                          const ProcessGroup& tp) {
  constexpr std::string_view operation = "row_parallel_linear";
  const at::Tensor& matrix = weight.data;
  check_floating(x, operation, "x");
  check_alike(matrix, x, operation, "weight");
  check(x.dim() == 3 && matrix.dim() == 2 && matrix.size(1) == x.size(2),
        "{}: Expected x of shape [s, b, in] and weight of shape [out, in], but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(matrix.sizes(), ", "));
  return RowParallelLinearFunction::apply(x, matrix, checked_main_grad(matrix, weight.main_grad),
                                          &tp);
}

}  // namespace megatron
