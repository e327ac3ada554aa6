#include "megatron/transformer/mlp_activation.h"

#include "megatron/base/error.h"

namespace megatron {
namespace {

kernels::Activation activation_function(const TransformerConfig& config) {
  using kernels::Activation;
  switch (config.activation_func) {
    case ActivationFunction::silu:
      return Activation::silu;
    case ActivationFunction::squared_relu:
      return Activation::squared_relu;
    case ActivationFunction::gelu:
      return config.bias_activation_fusion ? Activation::gelu_tanh : Activation::gelu;
    case ActivationFunction::openai_gelu:
      return Activation::gelu_tanh;
    case ActivationFunction::quick_gelu:
      return Activation::quick_gelu;
  }
  fail("Expected a known activation function");
}

}  // namespace

ActivationOptions mlp_activation(const TransformerConfig& config) {
  const bool gated = config.gated_linear_unit;
  check(!gated || config.activation_func != ActivationFunction::squared_relu,
        "Expected gelu, openai_gelu, quick_gelu or silu for a gated linear unit, but got "
        "squared_relu");
  check(gated || config.activation_func != ActivationFunction::silu,
        "Expected gelu, openai_gelu, quick_gelu or squared_relu without a gated linear unit, but "
        "got silu");
  ActivationOptions options{.function = activation_function(config), .glu = {}};
  if (!gated) return options;
  options.glu = GluOptions{.linear_offset = config.glu_linear_offset};
  if (config.activation_func_clamp_value)
    options.glu->clamp_value = *config.activation_func_clamp_value;
  return options;
}

}  // namespace megatron
