#include "megatron/tensor_parallel/fused_mlp.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/matmul/matmul.h"
#include "megatron/tensor_parallel/all_gather_matmul.h"
#include "megatron/tensor_parallel/column_parallel_steps.h"
#include "megatron/tensor_parallel/matmul_reduce_scatter.h"

namespace megatron {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows that pass through the whole block together: few enough for the output of the activation to
// stay in the caches, enough for the packing of the weights to cost little.
constexpr int64_t kFusedMlpRows = 1024;

struct FusedMlpTensors {
  at::Tensor norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight;
};

struct FusedMlpState : torch::CustomClassHolder {
  FusedMlpOptions options;
  // Not saved variables: other micro-batches modify the buffers before this backward.
  at::Tensor fc1_main_grad, fc2_main_grad;
  // [s, b, f_p] the output of linear_fc1, without its bias. Not a saved variable: it is freed in the
  // middle of backward, before the gradients of the weights need memory.
  at::Tensor hidden;
  bool needs_fc1 = false, needs_fc1_bias = false, needs_fc2 = false;

  ColumnParallelCommunication fc1_communication() const {
    return {.tp = options.tp,
            .sequence_parallel = options.sequence_parallel,
            .tp_comm_overlap = options.tp_comm_overlap,
            .overlap = options.fc1_overlap};
  }
  bool shards_sequence() const { return options.sequence_parallel && options.tp->size() > 1; }
  bool overlaps_fc2(const TpOverlap& overlap) const {
    return shards_sequence() && options.tp_comm_overlap && overlap.method != TpOverlapMethod::none;
  }
};

struct FusedMlpForward {
  RowStatistics statistics;
  at::Tensor hidden;  // [s, b, f_p] the output of linear_fc1, without its bias
  at::Tensor output;
};

// Every rank has all rows, which pass through the block in pieces.
FusedMlpForward forward_in_pieces(const at::Tensor& x, const FusedMlpTensors& tensors,
                                  const FusedMlpOptions& options) {
  const at::Tensor rows = flatten_rows(x);
  const int64_t count = rows.size(0), step = use_cpu_kernel(x) ? kFusedMlpRows : count;
  const auto shape_of = [&](int64_t width) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = width;
    return shape;
  };
  const at::TensorOptions tensor_options = tensors.fc1_weight.options().requires_grad(false);
  FusedMlpForward result;
  result.hidden = at::empty(shape_of(tensors.fc1_weight.size(0)), tensor_options);
  result.output = at::empty(shape_of(tensors.fc2_weight.size(0)), tensor_options);
  const at::Tensor hidden = result.hidden.view({count, tensors.fc1_weight.size(0)}),
                   output = result.output.view({count, tensors.fc2_weight.size(0)});
  std::vector<at::Tensor> means, rstds;
  std::vector<std::shared_ptr<Work>> reductions;
  for (int64_t row = 0; row < count; row += step) {
    const int64_t size = std::min(step, count - row);
    const NormalizedRows block = normalize_rows(rows.narrow(0, row, size), tensors.norm_weight,
                                                tensors.norm_bias, options.norm);
    const at::Tensor hidden_rows = hidden.narrow(0, row, size);
    matmul_out(hidden_rows, block.normed, tensors.fc1_weight.t(), /*bias=*/{});
    const at::Tensor output_rows = output.narrow(0, row, size);
    matmul_out(output_rows,
               bias_activation_forward(hidden_rows, tensors.fc1_bias, options.activation),
               tensors.fc2_weight.t(), /*bias=*/{});
    // Reduced while the next rows are multiplied.
    if (options.tp->size() > 1) reductions.push_back(options.tp->iall_reduce(output_rows));
    rstds.push_back(block.statistics.rstd);
    if (!options.norm.rms) means.push_back(block.statistics.mean);
  }
  for (const auto& reduction : reductions) reduction->wait();
  const auto joined = [&](const std::vector<at::Tensor>& parts) {
    if (parts.empty()) return at::Tensor();
    return parts.size() == 1 ? parts[0] : at::cat(parts);
  };
  result.statistics = {joined(means), joined(rstds)};
  if (rstds.empty()) {  // no rows
    result.statistics =
        normalize_rows(rows, tensors.norm_weight, tensors.norm_bias, options.norm).statistics;
  }
  return result;
}

// With sequence parallelism: gathers the normalised shards, and scatters the sums of the output.
FusedMlpForward forward_sharded(const at::Tensor& x, const FusedMlpTensors& tensors,
                                const FusedMlpState& state) {
  const FusedMlpOptions& options = state.options;
  FusedMlpForward result;
  NormalizedRows normalized =
      normalize_rows(x, tensors.norm_weight, tensors.norm_bias, options.norm);
  result.statistics = std::move(normalized.statistics);
  result.hidden = column_parallel_product(normalized.normed, tensors.fc1_weight, /*bias=*/{},
                                          state.fc1_communication())
                      .output;
  normalized = {};
  const at::Tensor activated =
      bias_activation_forward(result.hidden, tensors.fc1_bias, options.activation);
  const TpOverlap& overlap = options.fc2_overlap.fprop;
  result.output =
      state.overlaps_fc2(overlap)
          ? MatmulReduceScatter(activated, tensors.fc2_weight.t(), *options.tp, overlap.num_splits)
                .wait()
          : options.tp->reduce_scatter(linear_forward(activated, tensors.fc2_weight, /*bias=*/{}));
  return result;
}

// The output's gradient of all rows, and that of the activation's output.
struct OutputGradients {
  at::Tensor output, activated;
};

OutputGradients output_gradients(const at::Tensor& gradient, const at::Tensor& fc2_weight,
                                 const FusedMlpState& state) {
  const TpOverlap& overlap = state.options.fc2_overlap.dgrad;
  if (state.overlaps_fc2(overlap)) {
    AllGatherMatmul result =
        all_gather_matmul(gradient, fc2_weight, /*bias=*/{}, *state.options.tp, overlap.num_splits);
    return {result.gathered, result.output};
  }
  const at::Tensor all =
      state.shards_sequence() ? state.options.tp->all_gather(gradient) : gradient;
  return {all, linear_input_gradient(all, fc2_weight)};
}

class FusedMlpFunction : public torch::autograd::Function<FusedMlpFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& norm_weight,
                            const std::optional<at::Tensor>& norm_bias,
                            const at::Tensor& fc1_weight, const std::optional<at::Tensor>& fc1_bias,
                            const at::Tensor& fc2_weight, c10::intrusive_ptr<FusedMlpState> state) {
    const FusedMlpTensors tensors{norm_weight, norm_bias.value_or(at::Tensor()), fc1_weight,
                                  fc1_bias.value_or(at::Tensor()), fc2_weight};
    const at::NoGradGuard no_grad;
    FusedMlpForward result = state->shards_sequence()
                                 ? forward_sharded(x, tensors, *state)
                                 : forward_in_pieces(x, tensors, state->options);
    state->needs_fc1 = fc1_weight.requires_grad();
    state->needs_fc1_bias = fc1_bias.has_value() && fc1_bias->requires_grad();
    state->needs_fc2 = fc2_weight.requires_grad();
    context->save_for_backward({x, norm_weight, tensors.norm_bias, fc1_weight, tensors.fc1_bias,
                                fc2_weight, result.statistics.mean, result.statistics.rstd});
    state->hidden = std::move(result.hidden);
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return result.output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(7);
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const FusedMlpTensors tensors{saved[1], saved[2], saved[3], saved[4], saved[5]};
    const RowStatistics statistics{saved[6], saved[7]};
    const auto state =
        c10::static_intrusive_pointer_cast<FusedMlpState>(context->saved_data["state"].toCapsule());
    const NormLinearOptions& norm = state->options.norm;
    const ProcessGroup& tp = *state->options.tp;

    // The normalised input, gathered while linear_fc2's input gradient is computed.
    std::optional<GatheredShards> gathered;
    if (tp.size() > 1 && state->needs_fc1) {
      gathered.emplace(
          normalize_rows_again(x, tensors.norm_weight, tensors.norm_bias, statistics, norm),
          state->shards_sequence() ? &tp : nullptr);
    }
    OutputGradients output =
        output_gradients(gradients[0].contiguous(), tensors.fc2_weight, *state);
    ActivationGradients activation = bias_activation_backward(
        output.activated, state->hidden, tensors.fc1_bias, state->options.activation,
        state->needs_fc1_bias, /*again=*/state->needs_fc2);
    if (!torch::autograd::get_current_graph_task_keep_graph()) state->hidden.reset();
    const at::Tensor& activated = output.activated;  // of forward, if fc2 needs its gradient
    at::Tensor grad_fc1, grad_fc2;
    if (tp.size() == 1) {
      if (state->needs_fc2)
        grad_fc2 = column_parallel_weight_gradient(output.output, activated, state->fc2_main_grad);
      output = {};
      at::Tensor normed =
          linear_input_gradient(activation.x, tensors.fc1_weight);  // its gradient at first
      const NormGradients input =
          state->needs_fc1
              ? normalize_rows_backward_and_again(normed, x, tensors.norm_weight, tensors.norm_bias,
                                                  statistics, norm)
              : normalize_rows_backward(normed, x, tensors.norm_weight, statistics, norm);
      if (state->needs_fc1)
        grad_fc1 = column_parallel_weight_gradient(activation.x, normed, state->fc1_main_grad);
      return {input.x, input.weight, input.bias, grad_fc1, activation.bias, grad_fc2, {}};
    }
    ColumnParallelInputGradient reduced(activation.x, tensors.fc1_weight,
                                        state->fc1_communication());
    if (state->needs_fc2)
      grad_fc2 = column_parallel_weight_gradient(output.output, activated, state->fc2_main_grad);
    output = {};
    if (gathered)
      grad_fc1 =
          column_parallel_weight_gradient(activation.x, gathered->wait(), state->fc1_main_grad);
    const NormGradients input =
        normalize_rows_backward(reduced.wait(), x, tensors.norm_weight, statistics, norm);
    return {input.x, input.weight, input.bias, grad_fc1, activation.bias, grad_fc2, {}};
  }
};

void check_mlp_tensors(const at::Tensor& x, const FusedMlpTensors& tensors, bool gated) {
  constexpr std::string_view operation = "fused_mlp";
  check_floating(x, operation, "x");
  const at::Tensor &fc1 = tensors.fc1_weight, &fc2 = tensors.fc2_weight;
  check_alike(fc1, tensors.norm_weight, operation, "fc1_weight");
  check_alike(fc2, tensors.norm_weight, operation, "fc2_weight");
  check(x.dim() == 3 && fc1.dim() == 2 && fc1.size(1) == x.size(2),
        "{}: Expected x of shape [s, b, h] and fc1_weight of shape [f, h], but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(fc1.sizes(), ", "));
  const int64_t f = gated ? fc1.size(0) / 2 : fc1.size(0);
  check_shape(fc2, {x.size(2), f}, operation, "fc2_weight");
}

// A LayerNorm without bias shifts by zeros.
at::Tensor norm_shift(const FusedMlpParameters& parameters, const NormLinearOptions& norm) {
  if (parameters.norm_bias) return parameters.norm_bias->data;
  return norm.rms ? at::Tensor() : at::zeros_like(parameters.norm_weight->data.detach());
}

at::Tensor data_or_undefined(const ParameterPtr& parameter) {
  return parameter ? parameter->data : at::Tensor();
}

}  // namespace

at::Tensor fused_mlp(const at::Tensor& x, const FusedMlpParameters& parameters,
                     const FusedMlpOptions& options) {
  const FusedMlpTensors tensors{parameters.norm_weight->data, norm_shift(parameters, options.norm),
                                parameters.fc1_weight->data, data_or_undefined(parameters.fc1_bias),
                                parameters.fc2_weight->data};
  check_mlp_tensors(x, tensors, options.activation.glu.has_value());
  auto state = c10::make_intrusive<FusedMlpState>();
  state->options = options;
  const auto main_grad = [](const ParameterPtr& weight) {
    return checked_main_grad(weight->data, weight->main_grad).value_or(at::Tensor());
  };
  state->fc1_main_grad = main_grad(parameters.fc1_weight);
  state->fc2_main_grad = main_grad(parameters.fc2_weight);
  return FusedMlpFunction::apply(x, tensors.norm_weight, optional_tensor(tensors.norm_bias),
                                 tensors.fc1_weight, optional_tensor(tensors.fc1_bias),
                                 tensors.fc2_weight, std::move(state));
}

}  // namespace megatron
