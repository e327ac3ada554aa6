#include "megatron/ops/grouped/grouped_mlp.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/grouped/expert_rows.h"
#include "megatron/ops/grouped/grouped_gemm.h"
#include "megatron/ops/grouped/grouped_product.h"
#include "megatron/ops/grouped/weighted_activation.h"
#include "megatron/ops/matmul/linear.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GroupedMLPState : torch::CustomClassHolder {
  GroupedMLPOptions options;
  // Not saved variables: other micro-batches modify the buffers before this backward.
  at::Tensor fc1_main_grad, fc2_main_grad;
  bool needs_x = false, needs_probs = false, needs_fc1 = false, needs_fc1_bias = false,
       needs_fc2 = false, needs_fc2_bias = false;
};

at::Tensor empty_rows(const at::Tensor& like, int64_t width) {
  return at::empty({like.size(0), width}, like.options().requires_grad(false));
}

at::Tensor contiguous_if_defined(const at::Tensor& x) {
  return x.defined() ? x.contiguous() : x;
}

// linear_fc1 and the activation.
struct ActivatedRows {
  at::Tensor hidden, output;
};

ActivatedRows fc1_and_activation(const at::Tensor& x, const at::Tensor& counts,
                                 const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& probs, const ActivationOptions& activation) {
  if (!use_cpu_kernel(x)) {
    const at::Tensor hidden = grouped_gemm(x, counts, weight, bias);
    return {hidden, weighted_activation(hidden, probs, activation)};
  }
  const int64_t w = weight.size(1);
  const ActivatedRows result{empty_rows(x, w), empty_rows(x, activation.glu ? w / 2 : w)};
  grouped::multiply_and_activate(result.hidden, result.output, x.contiguous(),
                                 ExpertRows(counts, x.size(0), "grouped_mlp"), weight.contiguous(),
                                 contiguous_if_defined(bias), probs, activation);
  return result;
}

// y_r += p_r bias_i for the rows of each expert i.
void add_weighted_bias(at::Tensor& y, const at::Tensor& bias, const at::Tensor& probs,
                       const at::Tensor& counts) {
  const at::Tensor rows =
      bias.to(accumulation_dtype(y.scalar_type())).repeat_interleave(counts.to(y.device()), 0);
  y.copy_(y + rows * probs.unsqueeze(1));
}

at::Tensor fc2(const at::Tensor& rows, const at::Tensor& counts, const at::Tensor& weight,
               const at::Tensor& bias, const at::Tensor& probs) {
  if (!bias.defined() || !probs.defined()) return grouped_gemm(rows, counts, weight, bias);
  if (use_cpu_kernel(rows)) {
    const at::Tensor y = empty_rows(rows, weight.size(1));
    grouped::multiply(y, rows, ExpertRows(counts, rows.size(0), "grouped_mlp"), weight.contiguous(),
                      bias.contiguous(), probs);
    return y;
  }
  at::Tensor y = grouped_gemm(rows, counts, weight, {});
  add_weighted_bias(y, bias, probs, counts);
  return y;
}

// linear_fc2's input gradient and the backward of the activation.
WeightedActivationGradients backward_to_hidden(const at::Tensor& grad_y, const at::Tensor& counts,
                                               const at::Tensor& weight, const at::Tensor& hidden,
                                               const at::Tensor& probs,
                                               const GroupedMLPState& state) {
  const ActivationOptions& activation = state.options.activation;
  if (!use_cpu_kernel(grad_y)) {
    return weighted_activation_backward(grouped_gemm_input_gradient(grad_y, counts, weight), hidden,
                                        probs, activation);
  }
  WeightedActivationGradients result;
  result.hidden = empty_rows(hidden, hidden.size(1));
  if (state.needs_fc2) result.output = empty_rows(hidden, weight.size(2));
  if (state.needs_probs) result.probs = at::empty_like(probs);
  grouped::input_gradient_and_activation(result.hidden, result.output, result.probs, grad_y,
                                         ExpertRows(counts, grad_y.size(0), "grouped_mlp"),
                                         weight.contiguous(), hidden, probs, activation);
  return result;
}

// The gradient of p_r bias_i with respect to p_r, [t].
at::Tensor bias_gradient_of_probs(const at::Tensor& grad_y, const at::Tensor& bias,
                                  const at::Tensor& counts) {
  const auto wide = accumulation_dtype(grad_y.scalar_type());
  const at::Tensor rows = bias.to(wide).repeat_interleave(counts.to(grad_y.device()), 0);
  return (grad_y.to(wide) * rows).sum(1);
}

class GroupedMLPFunction : public torch::autograd::Function<GroupedMLPFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& counts,
                            const std::optional<at::Tensor>& maybe_probs,
                            const at::Tensor& fc1_weight, const std::optional<at::Tensor>& fc1_bias,
                            const at::Tensor& fc2_weight, const std::optional<at::Tensor>& fc2_bias,
                            c10::intrusive_ptr<GroupedMLPState> state) {
    const at::NoGradGuard no_grad;
    const auto requires_grad = [](const std::optional<at::Tensor>& tensor) {
      return tensor.has_value() && tensor->requires_grad();
    };
    state->needs_x = x.requires_grad();
    state->needs_probs = requires_grad(maybe_probs);
    state->needs_fc1 = fc1_weight.requires_grad();
    state->needs_fc1_bias = requires_grad(fc1_bias);
    state->needs_fc2 = fc2_weight.requires_grad();
    state->needs_fc2_bias = requires_grad(fc2_bias);
    at::Tensor probs;
    if (maybe_probs.has_value()) {
      probs = maybe_probs->detach().to(accumulation_dtype(x.scalar_type())).contiguous();
      context->saved_data["probs_dtype"] = static_cast<int64_t>(maybe_probs->scalar_type());
    }
    const at::Tensor bias2 = fc2_bias.value_or(at::Tensor());
    const ActivatedRows rows = fc1_and_activation(
        x, counts, fc1_weight, fc1_bias.value_or(at::Tensor()), probs, state->options.activation);
    const at::Tensor y = fc2(rows.output, counts, fc2_weight, bias2, probs);
    context->save_for_backward({state->needs_fc1 ? x : at::Tensor(), counts, probs, fc1_weight,
                                fc2_weight, bias2, rows.hidden});
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(8);
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &counts = saved[1], &probs = saved[2], &fc1_weight = saved[3],
                     &fc2_weight = saved[4], &fc2_bias = saved[5], &hidden = saved[6];
    const auto state = c10::static_intrusive_pointer_cast<GroupedMLPState>(
        context->saved_data["state"].toCapsule());
    const at::NoGradGuard no_grad;
    const at::Tensor grad_y = gradients[0].contiguous();
    at::Tensor grad_x, grad_probs, grad_fc1, grad_fc1_bias, grad_fc2, grad_fc2_bias;

    const WeightedActivationGradients activation =
        backward_to_hidden(grad_y, counts, fc2_weight, hidden, probs, *state);
    if (state->needs_probs) {
      grad_probs = activation.probs;
      if (fc2_bias.defined()) grad_probs += bias_gradient_of_probs(grad_y, fc2_bias, counts);
      grad_probs =
          grad_probs.to(static_cast<at::ScalarType>(context->saved_data["probs_dtype"].toInt()));
    }
    if (state->needs_fc2_bias) grad_fc2_bias = grouped_bias_gradient(grad_y, counts, probs);
    if (state->needs_fc1_bias) grad_fc1_bias = grouped_bias_gradient(activation.hidden, counts);
    if (state->needs_x) {
      grad_x = grouped_gemm_input_gradient(activation.hidden, counts, fc1_weight);
    }
    if (state->options.defer_weight_gradients && (state->needs_fc1 || state->needs_fc2)) {
      state->options.defer_weight_gradients([=] {
        const at::NoGradGuard no_grad_later;
        at::Tensor main_grad;
        if (state->needs_fc2) {
          main_grad = state->fc2_main_grad;
          accumulate_grouped_weight_gradient(main_grad, grad_y, activation.output, counts);
        }
        if (state->needs_fc1) {
          main_grad = state->fc1_main_grad;
          accumulate_grouped_weight_gradient(main_grad, activation.hidden, x, counts);
        }
      });
    } else {
      if (state->needs_fc2) {
        grad_fc2 = weight_gradient(state->fc2_main_grad, grad_y, activation.output, counts);
      }
      if (state->needs_fc1) {
        grad_fc1 = weight_gradient(state->fc1_main_grad, activation.hidden, x, counts);
      }
    }
    return {grad_x, {}, grad_probs, grad_fc1, grad_fc1_bias, grad_fc2, grad_fc2_bias, {}};
  }

 private:
  // Undefined if it was added to main_grad.
  static at::Tensor weight_gradient(at::Tensor main_grad, const at::Tensor& grad_y,
                                    const at::Tensor& x, const at::Tensor& counts) {
    if (!main_grad.defined()) return grouped_weight_gradient(grad_y, x, counts);
    accumulate_grouped_weight_gradient(main_grad, grad_y, x, counts);
    return {};
  }
};

void check_grouped_mlp(const at::Tensor& x, const at::Tensor& probs, const at::Tensor& counts,
                       const GroupedMLPWeights& weights, const GroupedMLPOptions& options) {
  constexpr std::string_view operation = "grouped_mlp";
  check_floating(x, operation, "x");
  check(x.dim() == 2, "{}: Expected x of shape [rows, h], but got [{}]", operation,
        fmt::join(x.sizes(), ", "));
  const at::Tensor &fc1 = weights.fc1_weight, &fc2 = weights.fc2_weight;
  check_alike(fc1, x, operation, "fc1_weight");
  check_alike(fc2, x, operation, "fc2_weight");
  const bool gated = options.activation.glu.has_value();
  check(fc1.dim() == 3 && fc1.size(2) == x.size(1) && (!gated || fc1.size(1) % 2 == 0),
        "{}: Expected fc1_weight of shape [experts, {}, {}], but got [{}]", operation,
        gated ? "2 f" : "f", x.size(1), fmt::join(fc1.sizes(), ", "));
  const int64_t experts = fc1.size(0), f = gated ? fc1.size(1) / 2 : fc1.size(1);
  check_shape(fc2, {experts, x.size(1), f}, operation, "fc2_weight");
  if (weights.fc1_bias.defined()) {
    check_shape(weights.fc1_bias, {experts, fc1.size(1)}, operation, "fc1_bias");
    check_alike(weights.fc1_bias, x, operation, "fc1_bias");
  }
  if (weights.fc2_bias.defined()) {
    check_shape(weights.fc2_bias, {experts, x.size(1)}, operation, "fc2_bias");
    check_alike(weights.fc2_bias, x, operation, "fc2_bias");
  }
  const ExpertRows rows(counts, x.size(0), operation);
  check(rows.experts() == experts, "{}: Expected counts of {} experts, but got {}", operation,
        experts, rows.experts());
  if (!probs.defined()) return;
  check_floating(probs, operation, "probs");
  check_shape(probs, {x.size(0)}, operation, "probs");
  check_alike(probs, x, operation, "probs", /*dtype=*/false);
}

void check_deferred(const GroupedMLPWeights& weights) {
  const auto check_main_grad = [](const at::Tensor& weight, const at::Tensor& main_grad,
                                  std::string_view name) {
    check(!weight.requires_grad() || main_grad.defined(),
          "grouped_mlp: Expected {}_main_grad, into which deferred weight gradients are added, but "
          "got an undefined tensor; without defer_weight_gradients it is not needed",
          name);
  };
  check_main_grad(weights.fc1_weight, weights.fc1_main_grad, "fc1");
  check_main_grad(weights.fc2_weight, weights.fc2_main_grad, "fc2");
}

}  // namespace

namespace unfused {

at::Tensor grouped_mlp(const at::Tensor& x, const at::Tensor& probs, const at::Tensor& counts,
                       const GroupedMLPWeights& weights, const GroupedMLPOptions& options) {
  check_grouped_mlp(x, probs, counts, weights, options);
  check(!weights.fc1_main_grad.defined() && !weights.fc2_main_grad.defined() &&
            !options.defer_weight_gradients,
        "unfused::grouped_mlp: Expected neither main_grad nor defer_weight_gradients; "
        "megatron::grouped_mlp has them");
  const at::Tensor hidden = unfused::grouped_gemm(x, counts, weights.fc1_weight, weights.fc1_bias);
  const at::Tensor activated = unfused::weighted_activation(hidden, probs, options.activation);
  const at::Tensor y = unfused::grouped_gemm(activated, counts, weights.fc2_weight, {});
  if (!weights.fc2_bias.defined()) return y;
  at::Tensor bias = weights.fc2_bias.to(accumulation_dtype(x.scalar_type()))
                        .repeat_interleave(counts.to(x.device()), 0);
  if (probs.defined()) bias = bias * probs.unsqueeze(1);
  return (y + bias).to(x.scalar_type());
}

}  // namespace unfused

at::Tensor grouped_mlp(const at::Tensor& x, const at::Tensor& probs, const at::Tensor& counts,
                       const GroupedMLPWeights& weights, const GroupedMLPOptions& options) {
  check_grouped_mlp(x, probs, counts, weights, options);
  if (options.defer_weight_gradients) check_deferred(weights);
  auto state = c10::make_intrusive<GroupedMLPState>();
  state->options = options;
  state->fc1_main_grad =
      checked_main_grad(weights.fc1_weight, weights.fc1_main_grad).value_or(at::Tensor());
  state->fc2_main_grad =
      checked_main_grad(weights.fc2_weight, weights.fc2_main_grad).value_or(at::Tensor());
  return GroupedMLPFunction::apply(x, counts, optional_tensor(probs), weights.fc1_weight,
                                   optional_tensor(weights.fc1_bias), weights.fc2_weight,
                                   optional_tensor(weights.fc2_bias), std::move(state));
}

}  // namespace megatron
