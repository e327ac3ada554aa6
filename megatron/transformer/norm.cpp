#include "megatron/transformer/norm.h"

#include <ATen/ops/ones.h>

#include "megatron/ops/norm.h"

namespace megatron {

NormParameters::NormParameters(const TransformerConfig& config, int64_t size,
                               const LayerOptions& layer_options)
    : options{.rms = config.normalization == Normalization::RMSNorm,
              .epsilon = config.layernorm_epsilon,
              .zero_centered = config.layernorm_zero_centered_gamma} {
  const auto make = [&](double value) {
    auto parameter =
        std::make_shared<Parameter>(std::vector<int64_t>{size}, layer_options.tensor,
                                    layer_options.sharding(), Initialization::constant(value));
    parameter->sequence_parallel = layer_options.sequence_parallel;
    return parameter;
  };
  weight = make(options.zero_centered ? 0 : 1);
  if (!options.rms) bias = make(0);
}

at::Tensor NormParameters::normalize(const at::Tensor& x, const LayerOptions& layer_options) const {
  const at::ScalarType dtype = x.scalar_type();
  at::Tensor scale = weight->data.to(dtype);
  if (options.zero_centered) scale = scale + 1;
  const at::Tensor y = options.rms ? rms_norm(x, scale, options.epsilon)
                                   : layer_norm(x, scale, bias->data.to(dtype), options.epsilon);
  return y.to(layer_options.compute_dtype.value_or(weight->data.scalar_type()));
}

WeightedNorm::WeightedNorm(const TransformerConfig& config, int64_t size,
                           const LayerOptions& options)
    : options_(options), norm_(config, size, options) {
  register_parameter("weight", norm_.weight);
  if (norm_.bias) register_parameter("bias", norm_.bias);
}

at::Tensor L2Norm::normalize(const at::Tensor& x) const {
  return rms_norm(x, at::ones({x.size(-1)}, x.options()), epsilon_);
}

}  // namespace megatron
