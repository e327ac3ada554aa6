#include "megatron/tensor_parallel/norm_column_parallel_linear_function.h"

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

// What backward needs besides saved variables. The main gradient is not a saved variable: other
// micro-batches modify the buffer before this backward.
struct NormColumnParallelState : torch::CustomClassHolder {
  NormLinearOptions options;
  ColumnParallelCommunication communication;
  at::Tensor main_grad;
  bool needs_input = false, needs_norm_weight = false, needs_norm_bias = false;
  bool needs_weight = false, needs_bias = false;

  bool needs_norm() const { return needs_input || needs_norm_weight || needs_norm_bias; }
};

bool requires_gradient(const at::Tensor& tensor) {
  return tensor.defined() && tensor.requires_grad();
}

// The normalized activations and their gradient while backward runs.
struct NormedGradient {
  at::Tensor gradient;  // of norm(x); undefined if nothing needs it
  at::Tensor weight;    // undefined if main_grad took it
};

class NormColumnParallelFunction : public torch::autograd::Function<NormColumnParallelFunction> {
 public:
  static variable_list forward(
      AutogradContext* context, const at::Tensor& x, const at::Tensor& norm_weight,
      const std::optional<at::Tensor>& maybe_norm_bias, const at::Tensor& weight,
      const std::optional<at::Tensor>& maybe_bias, const std::optional<at::Tensor>& main_grad,
      const NormLinearOptions& options, const ColumnParallelCommunication& communication,
      bool returns_normed) {
    const at::Tensor norm_bias = maybe_norm_bias.value_or(at::Tensor());
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    variable_list outputs(1);
    RowStatistics statistics;
    if (communication.shards_sequence() || returns_normed) {
      NormalizedRows rows = normalize_rows(x, norm_weight, norm_bias, options);
      outputs[0] = column_parallel_product(rows.normed, weight, bias, communication).output;
      statistics = std::move(rows.statistics);
      if (returns_normed) outputs.push_back(std::move(rows.normed));
    } else {
      NormLinearResult result =
          norm_linear_forward(x, norm_weight, norm_bias, weight, bias, options);
      outputs[0] = std::move(result.output);
      statistics = std::move(result.statistics);
    }
    context->save_for_backward(
        {x, norm_weight, norm_bias, weight, statistics.mean, statistics.rstd});
    auto state = c10::make_intrusive<NormColumnParallelState>();
    state->options = options;
    state->communication = communication;
    state->main_grad = main_grad.value_or(at::Tensor());
    state->needs_input = requires_gradient(x);
    state->needs_norm_weight = requires_gradient(norm_weight);
    state->needs_norm_bias = requires_gradient(norm_bias);
    state->needs_weight = requires_gradient(weight);
    state->needs_bias = requires_gradient(bias);
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto state = c10::static_intrusive_pointer_cast<NormColumnParallelState>(
        context->saved_data["state"].toCapsule());
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &norm_weight = saved[1];
    const RowStatistics statistics{saved[4], saved[5]};
    variable_list result(9);
    NormedGradient through_linear;
    if (gradients[0].defined()) {
      const at::Tensor grad_y = gradients[0].contiguous();
      through_linear = linear_gradients(*state, grad_y, saved, statistics);
      result[3] = through_linear.weight;
      if (state->needs_bias) result[4] = column_sum(grad_y);
    }
    at::Tensor grad_normed = through_linear.gradient;
    if (gradients.size() > 1 && gradients[1].defined())
      grad_normed = grad_normed.defined() ? grad_normed + gradients[1] : gradients[1];
    if (!grad_normed.defined() || !state->needs_norm()) return result;
    const NormGradients norm = normalize_rows_backward(grad_normed.contiguous(), x, norm_weight,
                                                       statistics, state->options);
    if (state->needs_input) result[0] = norm.x;
    if (state->needs_norm_weight) result[1] = norm.weight;
    if (state->needs_norm_bias) result[2] = norm.bias;
    return result;
  }

 private:
  // Starts the reduction of norm(x)'s gradient, computes the weight gradient, then waits.
  static NormedGradient linear_gradients(NormColumnParallelState& state, const at::Tensor& grad_y,
                                         const variable_list& saved,
                                         const RowStatistics& statistics) {
    const at::Tensor &x = saved[0], &norm_weight = saved[1], &norm_bias = saved[2],
                     &weight = saved[3];
    const ColumnParallelCommunication& communication = state.communication;
    DeferredWeightGradients* deferred = communication.deferred;
    const bool defers = state.needs_weight && state.main_grad.defined() && deferred != nullptr &&
                        deferred->accepts();
    const ProcessGroup* gathers = communication.shards_sequence() ? communication.tp : nullptr;
    at::Tensor normed;
    std::optional<GatheredShards> input;
    if (state.needs_weight && gathers != nullptr) {
      normed = normalize_rows_again(x, norm_weight, norm_bias, statistics, state.options);
      if (!defers) input.emplace(normed, gathers);
    }
    std::optional<ColumnParallelInputGradient> input_gradient;
    if (state.needs_norm()) input_gradient.emplace(grad_y, weight, communication);
    if (state.needs_weight && gathers == nullptr) {
      normed = normalize_rows_again(x, norm_weight, norm_bias, statistics, state.options);
      if (!defers) input.emplace(normed, nullptr);
    }
    NormedGradient result;
    if (defers) {
      deferred->add(state.main_grad, grad_y, normed, gathers);
    } else if (state.needs_weight) {
      result.weight = column_parallel_weight_gradient(grad_y, input->wait(), state.main_grad);
    }
    if (input_gradient) result.gradient = input_gradient->wait();
    return result;
  }
};

}  // namespace

NormColumnParallelOutput norm_column_parallel_linear(
    const at::Tensor& x, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
    const Parameter& weight, const at::Tensor& bias, const NormLinearOptions& options,
    const ColumnParallelCommunication& communication, bool returns_normed) {
  const at::Tensor& matrix = weight.data;
  if (communication.tp->size() == 1 && communication.deferred == nullptr && !returns_normed)
    return {norm_linear(x, norm_weight, norm_bias, matrix, bias, weight.main_grad, options), {}};
  constexpr std::string_view operation = "norm_column_parallel_linear";
  check(x.dim() == 3 && matrix.dim() == 2 && matrix.size(1) == x.size(2),
        "{}: Expected x of shape [s, b, in] and weight of shape [out, in], but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(matrix.sizes(), ", "));
  check_alike(matrix, norm_weight, operation, "weight");
  if (bias.defined()) {
    check_shape(bias, {matrix.size(0)}, operation, "bias");
    check_alike(bias, matrix, operation, "bias");
  }
  const auto outputs = NormColumnParallelFunction::apply(
      x, norm_weight, optional_tensor(norm_bias), matrix, optional_tensor(bias),
      checked_main_grad(matrix, weight.main_grad), options, communication, returns_normed);
  return {outputs[0], returns_normed ? outputs[1] : at::Tensor()};
}

}  // namespace megatron
