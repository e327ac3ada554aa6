#include "megatron/transformer/moe/grouped_experts.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/transformer/mlp_activation.h"

namespace megatron {

GroupedExperts::GroupedExperts(const BuildArguments& arguments)
    : options_(arguments.options), mlp_{.activation = mlp_activation(arguments.config)} {
  const TransformerConfig& config = arguments.config;
  const int64_t h = config.hidden_size, f = config.moe_ffn_size();
  const int64_t ep = options_.groups->ep->size(), etp = options_.groups->expt_tp->size();
  const int64_t all = *config.moe.num_moe_experts;
  check(all % ep == 0 && f % etp == 0,
        "Expected {} experts of width {} to be divisible by the expert parallel size ({}) and the "
        "expert tensor parallel size ({})",
        all, f, ep, etp);
  experts_ = all / ep;
  const int stride = config.gated_linear_unit ? 2 : 1;
  const int64_t width = stride * f / etp;
  fc1_weight_ = make_weight("linear_fc1.weight", {experts_, width, h}, /*partition_dim=*/1, stride,
                            config.hidden_std());
  if (config.has_mlp_bias())
    fc1_bias_ = make_bias("linear_fc1.bias", width, /*partition_dim=*/1, stride);
  fc2_weight_ = make_weight("linear_fc2.weight", {experts_, h, f / etp}, /*partition_dim=*/2,
                            /*stride=*/1, config.output_layer_std());
  if (config.has_mlp_bias())
    fc2_bias_ = make_bias("linear_fc2.bias", h, /*partition_dim=*/-1, /*stride=*/1);
}

ParameterPtr GroupedExperts::make_weight(const std::string& name, std::vector<int64_t> shape,
                                         int partition_dim, int stride, double std) {
  const ProcessGroup &tp = *options_.groups->expt_tp, &ep = *options_.groups->ep;
  const auto weight = register_parameter(
      name, std::make_shared<Parameter>(
                std::move(shape), options_.tensor,
                TensorParallelSharding{partition_dim, stride, tp.rank(), tp.size()},
                std == 0 ? Initialization::constant(0) : Initialization::normal(std)));
  weight->expert = true;
  weight->expert_sharding = {ep.rank(), ep.size()};
  return weight;
}

ParameterPtr GroupedExperts::make_bias(const std::string& name, int64_t width, int partition_dim,
                                       int stride) {
  return make_weight(name, {experts_, width}, partition_dim, stride, /*std=*/0);
}

at::Tensor GroupedExperts::forward(const at::Tensor& hidden_states, const at::Tensor& probs,
                                   const at::Tensor& counts,
                                   const WeightGradientDelay& delay) const {
  const auto values = [this](const ParameterPtr& parameter) {
    return parameter ? options_.cast(parameter->data) : at::Tensor();
  };
  // Values that were cast are no leaves: autograd takes their gradients to the parameters.
  const auto main_grad = [this](const ParameterPtr& parameter) {
    return options_.compute_dtype ? at::Tensor() : parameter->main_grad;
  };
  GroupedMLPWeights weights{.fc1_weight = values(fc1_weight_),
                            .fc1_bias = values(fc1_bias_),
                            .fc2_weight = values(fc2_weight_),
                            .fc2_bias = values(fc2_bias_),
                            .fc1_main_grad = main_grad(fc1_weight_),
                            .fc2_main_grad = main_grad(fc2_weight_)};
  // The partial sums of the tensor-parallel ranks contain the bias once; its gradient is complete on
  // each of them.
  if (fc2_bias_ && options_.groups->expt_tp->rank() > 0)
    weights.fc2_bias = weights.fc2_bias - weights.fc2_bias.detach();
  GroupedMLPOptions options = mlp_;
  options.defer_weight_gradients = delay;
  return grouped_mlp(hidden_states.to(weights.fc1_weight.scalar_type()), probs, counts, weights,
                     options);
}

}  // namespace megatron
