// The three products of a linear layer with quantized operands. The operands are quantized from the
// high-precision values for each product, blocks along the dimension that is summed; values are read
// back exactly and multiplied with fp32 sums (quantized_product.h).
//   t: tokens, i: input features, o: output features
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/precision/recipe.h"

namespace megatron {

// The scales of the recipe delayed (DelayedScaling); others take none.
struct DelayedScales {
  float input = 1, weight = 1, gradient = 1;
};

class QuantizedLinear {
 public:
  // Throws Error unless the scales are given with the recipe delayed and with no other.
  explicit QuantizedLinear(const LowPrecisionRecipe& recipe,
                           const std::optional<DelayedScales>& scales = std::nullopt);

  // x [t, i], weight [o, i], bias [o] or undefined -> fp32 [t, o] = q(x) q(weight)^T + bias.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const;

  // dy [t, o], weight [o, i] -> fp32 [t, i] = q(dy) q(weight).
  at::Tensor input_gradient(const at::Tensor& dy, const at::Tensor& weight,
                            const std::optional<StochasticRounding>& rounding = {}) const;

  // dy [t, o], x [t, i] -> fp32 [o, i] = q(dy)^T q(x). `rounding` counts rows and columns of dy^T.
  at::Tensor weight_gradient(const at::Tensor& dy, const at::Tensor& x,
                             const std::optional<StochasticRounding>& rounding = {}) const;

  // dy [t, o] -> fp32 [o], the sum over tokens of values that are not quantized.
  static at::Tensor bias_gradient(const at::Tensor& dy);

 private:
  QuantizedTensor quantize(LinearOperand operand, const at::Tensor& matrix,
                           const std::optional<StochasticRounding>& rounding = {}) const;

  LowPrecisionRecipe recipe_;
  std::optional<DelayedScales> scales_;
};

}  // namespace megatron
