// Recipes: how the operands of a linear layer's products are quantized. Megatron's names (fp8_recipe,
// fp4_recipe, fp8_format).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "megatron/config/model/low_precision_config.h"
#include "megatron/ops/quantization/quantize.h"

namespace megatron {

enum class ScalingRecipe {
  delayed,     // FP8, a scale per tensor from the amax of earlier steps
  tensorwise,  // FP8, a scale per tensor from its own amax
  blockwise,   // FP8, fp32 scales of 1 x 128 (activations, gradients) and 128 x 128 (weights)
  mxfp8,       // FP8, e8m0 scales of 1 x 32
  nvfp4,       // FP4, e4m3 scales of 1 x 16 (activations, gradients) and 16 x 16 (weights)
};

std::string_view recipe_name(ScalingRecipe recipe);
// "delayed", ...; throws Error with the names for another one.
ScalingRecipe scaling_recipe(std::string_view name);

struct LowPrecisionRecipe {
  ScalingRecipe scaling = ScalingRecipe::delayed;
  // delayed and tensorwise; the other recipes have one format in both directions.
  Fp8Format format = Fp8Format::hybrid;
  // tensorwise and blockwise.
  Fp32ScaleRule scale_rule;
  // nvfp4: transforms both operands of the weight gradient.
  bool random_hadamard_transform = false;
};

// The recipe with Transformer Engine's defaults: power-of-two scales for blockwise, the Hadamard
// transform for nvfp4.
LowPrecisionRecipe default_recipe(ScalingRecipe scaling);

// Throws Error where a field is set that the recipe does not use.
void check_recipe(const LowPrecisionRecipe& recipe);

// Which tensor of a linear layer is quantized.
enum class LinearOperand { input, weight, gradient };

// That of a configuration that uses FP8.
LowPrecisionRecipe recipe_of(const LowPrecisionConfig& config);
// Whether a tensor has one scale: the codes of its transpose are then its own, transposed.
bool scales_per_tensor(const LowPrecisionRecipe& recipe);

// The scales that other passes give to a tensor.
struct GivenScales {
  // What delayed scaling uses, required there and refused elsewhere.
  std::optional<float> scale = {};
  // The amax of the whole tensor of which the matrix is a part: tensorwise and nvfp4.
  std::optional<float> amax = {};
};

// Quantizes an operand [m, k] of a product that sums over k; blocks run along k. `rounding`:
// stochastic, for nvfp4's gradients only. Throws Error for a combination that the recipe does not
// have.
QuantizedTensor quantize_operand(const LowPrecisionRecipe& recipe, LinearOperand operand,
                                 const at::Tensor& matrix, const GivenScales& given = {},
                                 const std::optional<StochasticRounding>& rounding = {});

}  // namespace megatron
