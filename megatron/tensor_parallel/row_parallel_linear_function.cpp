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

struct RowParallelLinearState : torch::CustomClassHolder {
  const ProcessGroup* tp = nullptr;
  LinearOverlap overlap;
  at::Tensor main_grad;  // not a saved variable: other micro-batches modify it before backward
};

class RowParallelLinearFunction : public torch::autograd::Function<RowParallelLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& main_grad, const ProcessGroup* tp,
                            const LinearOverlap& overlap) {
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight});
    auto state = c10::make_intrusive<RowParallelLinearState>();
    state->tp = tp;
    state->overlap = overlap;
    state->main_grad = main_grad.value_or(at::Tensor());
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    if (overlap.fprop.method != TpOverlapMethod::pipeline)
      return tp->reduce_scatter(linear_forward(x, weight, /*bias=*/{}));
    return MatmulReduceScatter(x, weight.t(), *tp, overlap.fprop.num_splits).wait();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(5);
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const auto state = c10::static_intrusive_pointer_cast<RowParallelLinearState>(
        context->saved_data["state"].toCapsule());
    const ProcessGroup* tp = state->tp;
    at::Tensor& main_grad = state->main_grad;
    const TpOverlap& overlap = state->overlap.dgrad;
    const bool needs_weight = context->needs_input_grad(1);

    at::Tensor grad_y, grad_x, grad_weight;  // grad_y [s, b, out], gathered
    const bool needs_input = context->needs_input_grad(0);
    if (needs_input && overlap.method == TpOverlapMethod::ring_exchange) {
      AllGatherMatmul result =
          all_gather_matmul(gradients[0], weight, /*bias=*/{}, *tp, overlap.num_splits);
      grad_y = std::move(result.gathered);
      grad_x = std::move(result.output);
    } else if (needs_input || needs_weight) {
      grad_y = tp->all_gather(gradients[0]);
      if (needs_input) grad_x = linear_input_gradient(grad_y, weight);
    }
    if (needs_weight && main_grad.defined()) {
      accumulate_weight_gradient(main_grad, flatten_rows(grad_y), flatten_rows(x));
    } else if (needs_weight) {
      grad_weight = at::mm(flatten_rows(grad_y).t(), flatten_rows(x));
    }
    return {grad_x, grad_weight, {}, {}, {}};
  }
};

}  // namespace

at::Tensor overlapped_row_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                          const ProcessGroup& tp, const LinearOverlap& overlap) {
  constexpr std::string_view operation = "row_parallel_linear";
  const at::Tensor& matrix = weight.data;
  check_floating(x, operation, "x");
  check_alike(matrix, x, operation, "weight");
  check(x.dim() == 3 && matrix.dim() == 2 && matrix.size(1) == x.size(2),
        "{}: Expected x of shape [s, b, in] and weight of shape [out, in], but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(matrix.sizes(), ", "));
  return RowParallelLinearFunction::apply(x, matrix, checked_main_grad(matrix, weight.main_grad),
                                          &tp, overlap);
}

}  // namespace megatron
