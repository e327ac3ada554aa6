#include "megatron/precision/recipe.h"

#include <array>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr std::array<std::pair<ScalingRecipe, std::string_view>, 5> kRecipes = {{
    {ScalingRecipe::delayed, "delayed"},
    {ScalingRecipe::tensorwise, "tensorwise"},
    {ScalingRecipe::blockwise, "blockwise"},
    {ScalingRecipe::mxfp8, "mxfp8"},
    {ScalingRecipe::nvfp4, "nvfp4"},
}};

bool scales_per_tensor(ScalingRecipe recipe) {
  return recipe == ScalingRecipe::delayed || recipe == ScalingRecipe::tensorwise;
}

LowPrecisionFormat element_format(const LowPrecisionRecipe& recipe, LinearOperand operand) {
  if (recipe.scaling == ScalingRecipe::nvfp4) return LowPrecisionFormat::e2m1;
  const bool wide = scales_per_tensor(recipe.scaling) && recipe.format == Fp8Format::hybrid &&
                    operand == LinearOperand::gradient;
  return wide ? LowPrecisionFormat::e5m2 : LowPrecisionFormat::e4m3;
}

}  // namespace

std::string_view recipe_name(ScalingRecipe recipe) {
  for (const auto& [value, name] : kRecipes) {
    if (value == recipe) return name;
  }
  return "";
}

ScalingRecipe scaling_recipe(std::string_view name) {
  for (const auto& [value, known] : kRecipes) {
    if (known == name) return value;
  }
  fail("Expected a recipe delayed, tensorwise, blockwise, mxfp8 or nvfp4, but got '{}'", name);
}

LowPrecisionRecipe default_recipe(ScalingRecipe scaling) {
  return {.scaling = scaling,
          .scale_rule = {.power_of_two = scaling == ScalingRecipe::blockwise},
          .random_hadamard_transform = scaling == ScalingRecipe::nvfp4};
}

LowPrecisionRecipe recipe_of(const LowPrecisionConfig& config) {
  check(config.fp8.has_value(), "Expected a configuration with fp8, but got none");
  LowPrecisionRecipe recipe =
      default_recipe(config.fp8_recipe == Fp8Recipe::delayed      ? ScalingRecipe::delayed
                     : config.fp8_recipe == Fp8Recipe::tensorwise ? ScalingRecipe::tensorwise
                     : config.fp8_recipe == Fp8Recipe::blockwise  ? ScalingRecipe::blockwise
                                                                  : ScalingRecipe::mxfp8);
  recipe.format = *config.fp8;
  return recipe;
}

bool scales_per_tensor(const LowPrecisionRecipe& recipe) {
  return scales_per_tensor(recipe.scaling);
}

void check_recipe(const LowPrecisionRecipe& recipe) {
  const bool own_scales =
      recipe.scaling == ScalingRecipe::tensorwise || recipe.scaling == ScalingRecipe::blockwise;
  check(
      own_scales || (!recipe.scale_rule.power_of_two && recipe.scale_rule.amax_epsilon == 0),
      "Expected power-of-two scales and amax_epsilon with the recipes tensorwise and blockwise only, "
      "but got them with {}",
      recipe_name(recipe.scaling));
  check(recipe.scaling == ScalingRecipe::nvfp4 || !recipe.random_hadamard_transform,
        "Expected the random Hadamard transform with the recipe nvfp4 only, but got it with {}",
        recipe_name(recipe.scaling));
}

QuantizedTensor quantize_operand(const LowPrecisionRecipe& recipe, LinearOperand operand,
                                 const at::Tensor& matrix, const GivenScales& given,
                                 const std::optional<StochasticRounding>& rounding) {
  check_recipe(recipe);
  check((recipe.scaling == ScalingRecipe::delayed) == given.scale.has_value(),
        "Expected a given scale with the recipe delayed and no other, but got {} with {}",
        given.scale ? "one" : "none", recipe_name(recipe.scaling));
  check(!rounding || (recipe.scaling == ScalingRecipe::nvfp4 && operand == LinearOperand::gradient),
        "Expected stochastic rounding for gradients of the recipe nvfp4 only, but got it with {}",
        recipe_name(recipe.scaling));
  const LowPrecisionFormat format = element_format(recipe, operand);
  const bool weight = operand == LinearOperand::weight;
  switch (recipe.scaling) {
    case ScalingRecipe::delayed:
      return quantize_with_scale(matrix, format, *given.scale);
    case ScalingRecipe::tensorwise:
      return quantize_tensorwise(matrix, format, recipe.scale_rule, given.amax);
    case ScalingRecipe::blockwise:
      return quantize_blockwise(matrix, format, weight ? 128 : 1, 128, recipe.scale_rule);
    case ScalingRecipe::mxfp8:
      return quantize_mxfp8(matrix, format);
    case ScalingRecipe::nvfp4:
      return quantize_nvfp4(matrix, weight ? 16 : 1, rounding, given.amax);
  }
  fail("Expected a known recipe");
}

}  // namespace megatron
