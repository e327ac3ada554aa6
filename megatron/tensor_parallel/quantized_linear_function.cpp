#include "megatron/tensor_parallel/quantized_linear_function.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/parallel/collectives.h"
#include "megatron/precision/quantized_product.h"

namespace megatron {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct QuantizedLinearState : torch::CustomClassHolder {
  std::shared_ptr<LinearQuantizer> quantizer;
  at::Tensor main_grad;   // not a saved variable: other micro-batches modify it before backward
  QuantizedTensor input;  // its codes are the saved variable, where a tensor has one scale
  bool has_bias = false;
};

at::Tensor with_rows_of(const at::Tensor& product, const at::Tensor& like) {
  std::vector<int64_t> shape = like.sizes().vec();
  shape.back() = product.size(1);
  return product.to(like.scalar_type()).view(shape);
}

class QuantizedLinearFunction : public torch::autograd::Function<QuantizedLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& main_grad,
                            const std::shared_ptr<LinearQuantizer>& quantizer) {
    const at::NoGradGuard no_grad;
    auto state = c10::make_intrusive<QuantizedLinearState>();
    state->quantizer = quantizer;
    state->main_grad = main_grad.value_or(at::Tensor());
    state->has_bias = bias.has_value();
    state->input = quantizer->quantize(LinearOperand::input, flatten_rows(x));
    at::Tensor y = quantized_product(ProductOperand(state->input),
                                     quantizer->weight_for_output(weight.detach()));
    if (bias) y.add_(bias->to(y.scalar_type()));
    const bool keeps_codes = scales_per_tensor(quantizer->recipe());
    at::Tensor saved;
    if (weight.requires_grad()) saved = keeps_codes ? state->input.codes : x;
    state->input.codes.reset();
    context->save_for_backward({saved, weight});
    context->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    return with_rows_of(y, x);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(5);
    const auto saved = context->get_saved_variables();
    const at::Tensor weight = saved[1].detach();
    const auto state = c10::static_intrusive_pointer_cast<QuantizedLinearState>(
        context->saved_data["state"].toCapsule());
    LinearQuantizer& quantizer = *state->quantizer;
    const bool needs_x = context->needs_input_grad(0), needs_weight = context->needs_input_grad(1);
    const at::Tensor dy = flatten_rows(gradients[0]);
    const bool keeps_codes = scales_per_tensor(quantizer.recipe());
    variable_list result(5);
    std::optional<ProductOperand> quantized_dy;
    if (needs_x || keeps_codes)
      quantized_dy.emplace(quantizer.quantize(LinearOperand::gradient, dy));
    if (needs_x) {
      const at::Tensor dx =
          quantized_product(*quantized_dy, quantizer.weight_for_input_gradient(weight));
      result[0] = with_rows_of(dx, gradients[0]);
    }
    if (needs_weight) {
      const at::Tensor dw = keeps_codes ? of_codes(*quantized_dy, *state, saved[0])
                                        : of_blocks(dy, quantizer, saved[0]);
      if (state->main_grad.defined()) {
        state->main_grad.add_(dw);
      } else {
        result[1] = dw.to(weight.scalar_type());
      }
    }
    // needs_input_grad counts defined inputs only, so index 2 is the bias if there is one.
    if (state->has_bias && context->needs_input_grad(2)) result[2] = column_sum(dy);
    return result;
  }

 private:
  // dy^T x from the codes of both.
  static at::Tensor of_codes(const ProductOperand& dy, const QuantizedLinearState& state,
                             const at::Tensor& codes) {
    QuantizedTensor x = state.input;
    x.codes = codes;
    return quantized_product(dy.transposed(), ProductOperand(x, /*transposed=*/true));
  }

  // dy^T x with blocks along the tokens.
  static at::Tensor of_blocks(const at::Tensor& dy, LinearQuantizer& quantizer,
                              const at::Tensor& x) {
    return quantized_product(
        ProductOperand(quantizer.quantize(LinearOperand::gradient, dy.t())),
        ProductOperand(quantizer.quantize(LinearOperand::input, flatten_rows(x).t())));
  }
};

}  // namespace

at::Tensor quantized_linear(const at::Tensor& x, const Parameter& weight, const at::Tensor& bias,
                            const std::shared_ptr<LinearQuantizer>& quantizer) {
  constexpr std::string_view operation = "quantized_linear";
  const at::Tensor& matrix = weight.data;
  check_floating(x, operation, "x");
  check_alike(matrix, x, operation, "weight");
  check(x.dim() >= 1 && matrix.dim() == 2 && matrix.size(1) == x.size(-1),
        "{}: Expected x of shape [..., in] and weight of shape [out, in], but got [{}] and [{}]",
        operation, fmt::join(x.sizes(), ", "), fmt::join(matrix.sizes(), ", "));
  if (bias.defined()) {
    check_shape(bias, {matrix.size(0)}, operation, "bias");
    check_alike(bias, x, operation, "bias");
  }
  return QuantizedLinearFunction::apply(x, matrix, optional_tensor(bias),
                                        checked_main_grad(matrix, weight.main_grad), quantizer);
}

at::Tensor quantized_column_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                            const at::Tensor& bias, const LayerOptions& options,
                                            const std::shared_ptr<LinearQuantizer>& quantizer) {
  const at::Tensor input = options.sequence_parallel
                               ? gather_from_sequence_parallel_region(x, *options.tp)
                               : copy_to_tensor_model_parallel_region(x, *options.tp);
  return quantized_linear(input, weight, bias, quantizer);
}

}  // namespace megatron
