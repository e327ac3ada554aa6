#include "megatron/tensor_parallel/column_parallel_linear_function.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/matmul/linear.h"

namespace megatron {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Whether the node saves this rank's shard of the input instead of the gathered input.
bool saves_shard(const ColumnParallelCommunication& communication) {
  return communication.shards_sequence() &&
         (communication.all_gather_input_in_backward || communication.deferred != nullptr);
}

// What backward needs besides saved variables. The main gradient is not a saved variable: other
// micro-batches modify the buffer before this backward.
struct ColumnParallelLinearState : torch::CustomClassHolder {
  ColumnParallelCommunication communication;
  at::Tensor main_grad;
  bool has_bias = false;
};

class ColumnParallelLinearFunction
    : public torch::autograd::Function<ColumnParallelLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& main_grad,
                            const ColumnParallelCommunication& communication) {
    const ColumnParallelProduct product =
        column_parallel_product(x, weight, bias.value_or(at::Tensor()), communication);
    const at::Tensor saved = saves_shard(communication) ? x : product.input;
    context->save_for_backward({weight.requires_grad() ? saved : at::Tensor(), weight});
    auto state = c10::make_intrusive<ColumnParallelLinearState>();
    state->communication = communication;
    state->main_grad = main_grad.value_or(at::Tensor());
    state->has_bias = bias.has_value();
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return product.output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor &saved_input = saved[0], &weight = saved[1];
    const auto state = c10::static_intrusive_pointer_cast<ColumnParallelLinearState>(
        context->saved_data["state"].toCapsule());
    const ColumnParallelCommunication& communication = state->communication;
    const ProcessGroup* tp = communication.tp;
    DeferredWeightGradients* deferred = communication.deferred;
    at::Tensor& main_grad = state->main_grad;
    const at::Tensor grad_y = gradients[0].contiguous();

    const bool needs_weight = context->needs_input_grad(1);
    const bool defers =
        needs_weight && main_grad.defined() && deferred != nullptr && deferred->accepts();
    const bool gathers = needs_weight && !defers && saves_shard(communication);
    GatheredShards input(saved_input, gathers ? tp : nullptr);
    std::optional<ColumnParallelInputGradient> input_gradient;
    if (context->needs_input_grad(0)) input_gradient.emplace(grad_y, weight, communication);

    at::Tensor grad_weight, grad_bias;
    if (defers) {
      deferred->add(main_grad, grad_y, saved_input, saves_shard(communication) ? tp : nullptr);
    } else if (needs_weight) {
      grad_weight = column_parallel_weight_gradient(grad_y, input.wait(), main_grad);
    }
    // needs_input_grad counts defined inputs only, so index 2 is the bias if there is one.
    if (state->has_bias && context->needs_input_grad(2)) grad_bias = column_sum(grad_y);
    return {input_gradient ? input_gradient->wait() : at::Tensor(), grad_weight, grad_bias, {}, {}};
  }
};

}  // namespace

at::Tensor column_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                  const at::Tensor& bias,
                                  const ColumnParallelCommunication& communication) {
  const at::Tensor& matrix = weight.data;
  if (communication.tp->size() == 1 && communication.deferred == nullptr)
    return linear(x, matrix, bias, weight.main_grad);
  constexpr std::string_view operation = "column_parallel_linear";
  check_floating(x, operation, "x");
  check_alike(matrix, x, operation, "weight");
  check(x.dim() == 3 && matrix.dim() == 2 && matrix.size(1) == x.size(2),
        "{}: Expected x of shape [s, b, in] and weight of shape [out, in], but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(matrix.sizes(), ", "));
  if (bias.defined()) {
    check_shape(bias, {matrix.size(0)}, operation, "bias");
    check_alike(bias, x, operation, "bias");
  }
  return ColumnParallelLinearFunction::apply(
      x, matrix, optional_tensor(bias), checked_main_grad(matrix, weight.main_grad), communication);
}

}  // namespace megatron
