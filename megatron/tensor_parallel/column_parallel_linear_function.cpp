#include "megatron/tensor_parallel/column_parallel_linear_function.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/tensor_parallel/all_gather_matmul.h"

namespace megatron {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Column : ColumnParallelCommunication {
  bool splits_sequence() const { return sequence_parallel && tp->size() > 1; }
  // Whether the node keeps this rank's part of the input, not the whole.
  bool keeps_part() const { return splits_sequence() && (regathers_input || deferred != nullptr); }
};

// What backward needs besides saved variables. The main gradient is none: other micro-batches
// change the buffer before this backward.
struct ColumnState : torch::CustomClassHolder {
  Column column;
  at::Tensor main_grad;
  bool has_bias = false;
};

// x's gradient on its way: summed over the ranks, this rank's part of it with sequence parallelism.
class InputGradient {
 public:
  InputGradient(const at::Tensor& grad_y, const at::Tensor& weight, const Column& column) {
    if (column.splits_sequence() && column.overlaps_pieces) {
      pieces_.emplace(grad_y, weight, *column.tp);
      return;
    }
    const at::Tensor partial = linear_input_gradient(grad_y, weight);
    if (!column.splits_sequence()) {
      gradient_ = partial;
      reduction_ = column.tp->iall_reduce(gradient_);
      return;
    }
    std::vector<int64_t> shape = partial.sizes().vec();
    shape[0] /= column.tp->size();
    gradient_ = at::empty(shape, partial.options());
    reduction_ = column.tp->ireduce_scatter(gradient_, partial);
  }
  at::Tensor wait() {
    if (pieces_) return pieces_->wait();
    reduction_->wait();
    return gradient_;
  }

 private:
  at::Tensor gradient_;
  std::shared_ptr<Work> reduction_;
  std::optional<MatmulReduceScatter> pieces_;
};

class ColumnParallelLinearFunction : public torch::autograd::Function<ColumnParallelLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& main_grad, const Column& column) {
    at::Tensor whole = x, output;
    if (column.splits_sequence() && column.overlaps_pieces) {
      AllGatherMatmul product =
          all_gather_matmul(x, weight.t(), bias.value_or(at::Tensor()), *column.tp);
      whole = std::move(product.whole);
      output = std::move(product.output);
    } else {
      if (column.splits_sequence()) whole = column.tp->all_gather(x);
      output = linear_forward(whole, weight, bias.value_or(at::Tensor()));
    }
    const at::Tensor kept = column.keeps_part() ? x : whole;
    context->save_for_backward({weight.requires_grad() ? kept : at::Tensor(), weight});
    auto state = c10::make_intrusive<ColumnState>();
    state->column = column;
    state->main_grad = main_grad.value_or(at::Tensor());
    state->has_bias = bias.has_value();
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor &kept = saved[0], &weight = saved[1];
    const auto state =
        c10::static_intrusive_pointer_cast<ColumnState>(context->saved_data["state"].toCapsule());
    const Column& column = state->column;
    at::Tensor& main_grad = state->main_grad;
    const at::Tensor grad_y = gradients[0].contiguous();

    const bool wants_weight = context->needs_input_grad(1);
    const bool defers = wants_weight && main_grad.defined() && column.deferred != nullptr &&
                        column.deferred->accepts();
    at::Tensor whole = kept;
    std::shared_ptr<Work> arriving;
    if (wants_weight && !defers && column.keeps_part()) {
      std::vector<int64_t> shape = kept.sizes().vec();
      shape[0] *= column.tp->size();
      whole = at::empty(shape, kept.options());
      arriving = column.tp->iall_gather(whole, kept.contiguous());
    }
    std::optional<InputGradient> input_gradient;
    if (context->needs_input_grad(0)) input_gradient.emplace(grad_y, weight, column);
    if (arriving) arriving->wait();

    at::Tensor grad_weight, grad_bias;
    if (defers) {
      column.deferred->add(main_grad, grad_y, kept, column.keeps_part() ? column.tp : nullptr);
    } else if (wants_weight && main_grad.defined()) {
      accumulate_weight_gradient(main_grad, flatten_rows(grad_y), flatten_rows(whole));
    } else if (wants_weight) {
      grad_weight = at::mm(flatten_rows(grad_y).t(), flatten_rows(whole));
    }
    // Edges count only the tensors that are there: the third is the bias where there is one.
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
  return ColumnParallelLinearFunction::apply(x, matrix, optional_tensor(bias),
                                       checked_main_grad(matrix, weight.main_grad),
                                       Column{communication});
}

}  // namespace megatron
