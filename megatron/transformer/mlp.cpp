#include "megatron/transformer/mlp.h"

#include <cmath>

#include "megatron/base/error.h"
#include "megatron/ops/activation.h"
#include "megatron/ops/recompute.h"

namespace megatron {

MLP::MLP(const TransformerConfig& config, const LayerOptions& options) : config_(config) {
  const bool gated = config.gated_linear_unit;
  check(!gated || config.activation_func != ActivationFunction::squared_relu,
        "Expected gelu, openai_gelu, quick_gelu or silu for a gated linear unit, but got "
        "squared_relu");
  check(gated || config.activation_func != ActivationFunction::silu,
        "Expected gelu, openai_gelu, quick_gelu or squared_relu without a gated linear unit, but "
        "got silu");
  linear_fc1_ = register_module(
      "linear_fc1",
      std::make_shared<ColumnParallelLinear>(
          ColumnParallelLinearArguments{.input_size = config.hidden_size,
                                        .output_size = (gated ? 2 : 1) * config.ffn_size(),
                                        .bias = config.add_bias_linear,
                                        .init_std = config.hidden_std(),
                                        .stride = gated ? 2 : 1,
                                        .skip_bias_add = true},
          options));
  linear_fc2_ = register_module(
      "linear_fc2", std::make_shared<RowParallelLinear>(
                        RowParallelLinearArguments{.input_size = config.ffn_size(),
                                                   .output_size = config.hidden_size,
                                                   .bias = config.add_bias_linear,
                                                   .init_std = config.output_layer_std()},
                        options));
}

at::Tensor MLP::activate(const at::Tensor& x) const {
  const at::Tensor bias = linear_fc1_->bias();
  const bool tanh_form =
      config_.bias_activation_fusion || config_.activation_func == ActivationFunction::openai_gelu;
  const bool gated = config_.gated_linear_unit;
  GluOptions glu{.linear_offset = config_.glu_linear_offset};
  if (config_.activation_func_clamp_value) glu.clamp_value = *config_.activation_func_clamp_value;
  switch (config_.activation_func) {
    case ActivationFunction::silu:
      return bias_swiglu(x, bias, glu);
    case ActivationFunction::squared_relu:
      return bias_squared_relu(x, bias);
    case ActivationFunction::gelu:
    case ActivationFunction::openai_gelu:
      return gated ? bias_geglu(x, bias, tanh_form, glu) : bias_gelu(x, bias, tanh_form);
    case ActivationFunction::quick_gelu:
      return gated ? bias_quick_geglu(x, bias, glu) : bias_quick_gelu(x, bias);
  }
  fail("Expected a known activation function");
}

OutputAndBias MLP::forward(const at::Tensor& hidden_states) const {
  const auto block = [this](const at::Tensor& x) {
    return linear_fc2_->forward(activate(linear_fc1_->forward(x)));
  };
  return {recompute_if(config_.recompute.selects("mlp"), block, hidden_states),
          linear_fc2_->bias()};
}

}  // namespace megatron
