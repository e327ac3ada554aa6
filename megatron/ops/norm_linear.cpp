// The norm fused with a linear layer: its product in blocks of rows, and autograd on one rank.
#include "megatron/ops/norm_linear.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/matmul/matmul.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows that are normalised and multiplied together: few enough to stay in the second-level caches,
// enough for the packing of the weight to cost little.
constexpr int64_t kNormLinearRows = 1024;

struct NormLinearState : torch::CustomClassHolder {
  NormLinearOptions options;
  at::Tensor main_grad;  // not a saved variable: other micro-batches modify it before backward
  bool needs_weight = false, needs_bias = false;
};

class NormLinearFunction : public torch::autograd::Function<NormLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& norm_weight,
                            const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& main_grad,
                            const NormLinearOptions& options) {
    const at::Tensor shift = norm_bias.value_or(at::Tensor());
    NormLinearResult result =
        norm_linear_forward(x, norm_weight, shift, weight, bias.value_or(at::Tensor()), options);
    context->save_for_backward(
        {x, norm_weight, shift, weight, result.statistics.mean, result.statistics.rstd});
    auto state = c10::make_intrusive<NormLinearState>();
    state->options = options;
    state->main_grad = main_grad.value_or(at::Tensor());
    state->needs_weight = weight.requires_grad();
    state->needs_bias = bias.has_value() && bias->requires_grad();
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return result.output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(7);
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &norm_weight = saved[1], &norm_bias = saved[2],
                     &weight = saved[3];
    const RowStatistics statistics{saved[4], saved[5]};
    const auto state = c10::static_intrusive_pointer_cast<NormLinearState>(
        context->saved_data["state"].toCapsule());
    const at::Tensor grad_y = flatten_rows(gradients[0]);
    at::Tensor normed = linear_input_gradient(gradients[0], weight);  // its gradient at first
    const NormGradients norm =
        state->needs_weight
            ? normalize_rows_backward_and_again(normed, x, norm_weight, norm_bias, statistics,
                                                state->options)
            : normalize_rows_backward(normed, x, norm_weight, statistics, state->options);
    at::Tensor grad_weight, grad_bias;
    if (state->needs_weight && state->main_grad.defined()) {
      accumulate_weight_gradient(state->main_grad, grad_y, flatten_rows(normed));
    } else if (state->needs_weight) {
      grad_weight = at::mm(grad_y.t(), flatten_rows(normed));
    }
    if (state->needs_bias) grad_bias = column_sum(grad_y);
    return {norm.x, norm.weight, norm.bias, grad_weight, grad_bias, {}, {}};
  }
};

void check_linear(const at::Tensor& x, const at::Tensor& norm_weight, const at::Tensor& weight,
                  const at::Tensor& bias) {
  constexpr std::string_view operation = "norm_linear";
  check_floating(x, operation, "x");
  check_alike(weight, norm_weight, operation, "weight");
  check(x.dim() >= 1 && weight.dim() == 2 && weight.size(1) == x.size(-1),
        "{}: Expected weight of shape [out, {}], but got [{}]", operation,
        x.dim() == 0 ? 0 : x.size(-1), fmt::join(weight.sizes(), ", "));
  if (!bias.defined()) return;
  check_shape(bias, {weight.size(0)}, operation, "bias");
  check_alike(bias, weight, operation, "bias");
}

}  // namespace

NormLinearResult norm_linear_forward(const at::Tensor& x, const at::Tensor& norm_weight,
                                     const at::Tensor& norm_bias, const at::Tensor& weight,
                                     const at::Tensor& bias, const NormLinearOptions& options) {
  check_linear(x, norm_weight, weight, bias);
  const at::NoGradGuard no_grad;
  const at::Tensor rows = flatten_rows(x);
  const int64_t count = rows.size(0), step = use_cpu_kernel(x) ? kNormLinearRows : count;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  NormLinearResult result;
  if (count <= step) {
    NormalizedRows normalized = normalize_rows(rows, norm_weight, norm_bias, options);
    result.output = matmul(normalized.normed, weight.t(), bias).view(shape);
    result.statistics = std::move(normalized.statistics);
    return result;
  }
  const at::Tensor output =
      at::empty({count, weight.size(0)}, weight.options().requires_grad(false));
  std::vector<at::Tensor> means, rstds;
  for (int64_t row = 0; row < count; row += step) {
    const int64_t size = std::min(step, count - row);
    const NormalizedRows block =
        normalize_rows(rows.narrow(0, row, size), norm_weight, norm_bias, options);
    matmul_out(output.narrow(0, row, size), block.normed, weight.t(), bias);
    rstds.push_back(block.statistics.rstd);
    if (!options.rms) means.push_back(block.statistics.mean);
  }
  result.output = output.view(shape);
  result.statistics.rstd = at::cat(rstds);
  if (!options.rms) result.statistics.mean = at::cat(means);
  return result;
}

at::Tensor norm_linear(const at::Tensor& x, const at::Tensor& norm_weight,
                       const at::Tensor& norm_bias, const at::Tensor& weight,
                       const at::Tensor& bias, const at::Tensor& weight_main_grad,
                       const NormLinearOptions& options) {
  check_linear(x, norm_weight, weight, bias);
  return NormLinearFunction::apply(x, norm_weight, optional_tensor(norm_bias), weight,
                                   optional_tensor(bias),
                                   checked_main_grad(weight, weight_main_grad), options);
}

}  // namespace megatron
