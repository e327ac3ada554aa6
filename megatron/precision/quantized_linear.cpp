#include "megatron/precision/quantized_linear.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/precision/quantized_product.h"

namespace megatron {
namespace {

void check_product(const at::Tensor& a, const at::Tensor& b, int64_t a_dimension,
                   int64_t b_dimension, std::string_view operation) {
  check(
      a.dim() == 2 && b.dim() == 2 && a.size(a_dimension) == b.size(b_dimension),
      "{}: Expected two matrices with equal sizes of dimensions {} and {}, but got shapes {} and {}",
      operation, a_dimension, b_dimension, c10::str(a.sizes()), c10::str(b.sizes()));
}

}  // namespace

QuantizedLinear::QuantizedLinear(const LowPrecisionRecipe& recipe,
                                 const std::optional<DelayedScales>& scales)
    : recipe_(recipe), scales_(scales) {
  check_recipe(recipe);
  check((recipe.scaling == ScalingRecipe::delayed) == scales.has_value(),
        "Expected given scales with the recipe delayed and no other, but got {} with {}",
        scales ? "some" : "none", recipe_name(recipe.scaling));
}

QuantizedTensor QuantizedLinear::quantize(LinearOperand operand, const at::Tensor& matrix,
                                          const std::optional<StochasticRounding>& rounding) const {
  std::optional<float> scale;
  if (scales_) {
    scale = operand == LinearOperand::input    ? scales_->input
            : operand == LinearOperand::weight ? scales_->weight
                                               : scales_->gradient;
  }
  return quantize_operand(recipe_, operand, matrix, {.scale = scale}, rounding);
}

at::Tensor QuantizedLinear::forward(const at::Tensor& x, const at::Tensor& weight,
                                    const at::Tensor& bias) const {
  check_product(x, weight, 1, 1, "QuantizedLinear::forward");
  const at::Tensor y =
      quantized_product(quantize(LinearOperand::input, x), quantize(LinearOperand::weight, weight));
  return bias.defined() ? y + bias.to(at::kFloat) : y;
}

at::Tensor QuantizedLinear::input_gradient(
    const at::Tensor& dy, const at::Tensor& weight,
    const std::optional<StochasticRounding>& rounding) const {
  check_product(dy, weight, 1, 0, "QuantizedLinear::input_gradient");
  return quantized_product(quantize(LinearOperand::gradient, dy, rounding),
                           quantize(LinearOperand::weight, weight.t()));
}

at::Tensor QuantizedLinear::weight_gradient(
    const at::Tensor& dy, const at::Tensor& x,
    const std::optional<StochasticRounding>& rounding) const {
  check_product(dy, x, 0, 0, "QuantizedLinear::weight_gradient");
  at::Tensor gradient = dy.t(), input = x.t();
  if (recipe_.random_hadamard_transform) {
    gradient = megatron::random_hadamard_transform(gradient);
    input = megatron::random_hadamard_transform(input);
  }
  return quantized_product(quantize(LinearOperand::gradient, gradient, rounding),
                           quantize(LinearOperand::input, input));
}

at::Tensor QuantizedLinear::bias_gradient(const at::Tensor& dy) {
  return dy.to(at::kFloat).sum(0);
}

}  // namespace megatron
