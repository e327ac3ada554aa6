#include "megatron/transformer/norm.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/integer_math.h"
#include "megatron/ops/norm.h"
#include "megatron/parallel/collectives.h"

namespace megatron {

NormParameters::NormParameters(const TransformerConfig& config, std::vector<int64_t> shape,
                               const LayerOptions& layer_options)
    : options{.rms = config.normalization == Normalization::RMSNorm,
              .epsilon = config.layernorm_epsilon,
              .zero_centered = config.layernorm_zero_centered_gamma} {
  const auto make = [&](double value) {
    auto parameter = std::make_shared<Parameter>(
        shape, layer_options.tensor, layer_options.sharding(), Initialization::constant(value));
    parameter->sequence_parallel = layer_options.sequence_parallel;
    return parameter;
  };
  weight = make(options.zero_centered ? 0 : 1);
  if (!options.rms && config.layernorm_bias) bias = make(0);
}

at::Tensor NormParameters::shift() const {
  if (bias) return bias->data;
  return options.rms ? at::Tensor() : at::zeros(weight->data.sizes(), weight->data.options());
}

at::Tensor NormParameters::normalize(const at::Tensor& x, const LayerOptions& layer_options) const {
  const at::ScalarType dtype = x.scalar_type();
  at::Tensor scale = weight->data.to(dtype);
  if (options.zero_centered) scale = scale + 1;
  const at::Tensor y = options.rms ? rms_norm(x, scale, options.epsilon)
                                   : layer_norm(x, scale, shift().to(dtype), options.epsilon);
  return y.to(layer_options.compute_dtype.value_or(weight->data.scalar_type()));
}

WeightedNorm::WeightedNorm(const TransformerConfig& config, int64_t size,
                           const LayerOptions& options)
    : options_(options), norm_(config, {size}, options) {
  register_parameter("weight", norm_.weight);
  if (norm_.bias) register_parameter("bias", norm_.bias);
}

HeadsNorm::HeadsNorm(const TransformerConfig& config, int64_t size, const LayerOptions& options)
    : options_(options),
      is_projection_(config.qk_layernorm_scope == QkNormScope::projection),
      heads_(divide(size, config.head_dim(), "the features of a norm of heads")),
      head_dim_(config.head_dim()),
      norm_(config,
            is_projection_ ? std::vector<int64_t>{size} : std::vector<int64_t>{heads_, head_dim_},
            options) {
  register_parameter("weight", norm_.weight);
  if (norm_.bias) register_parameter("bias", norm_.bias);
}

at::Tensor HeadsNorm::of_this_rank(const at::Tensor& values, int64_t heads_p) const {
  const int64_t first = options_.tp->rank() * heads_ / options_.tp->size();
  return values.view({heads_, head_dim_}).narrow(0, first, heads_p);
}

at::Tensor HeadsNorm::normalize_projection(const at::Tensor& x) const {
  const at::Tensor local = x.square().sum(at::IntArrayRef{-2, -1}, /*keepdim=*/true);
  // Every rank's features depend on the sum, so its gradient is summed over the ranks, too.
  const at::Tensor total = copy_to_tensor_model_parallel_region(
      reduce_from_tensor_model_parallel_region(local, *options_.tp), *options_.tp);
  // Counts a head as often as ranks hold it, as the sum does.
  const int64_t features = options_.tp->size() * x.size(-2) * x.size(-1);
  return x * (total / static_cast<double>(features) + norm_.options.epsilon).rsqrt();
}

at::Tensor HeadsNorm::normalize(const at::Tensor& x) const {
  const at::Tensor wide = x.to(accumulation_dtype(x.scalar_type()));
  const double epsilon = norm_.options.epsilon;
  at::Tensor scale = of_this_rank(norm_.weight->data, x.size(-2)).to(wide.scalar_type());
  if (norm_.options.zero_centered) scale = scale + 1;
  at::Tensor y;
  if (is_projection_) {
    y = normalize_projection(wide) * scale;
  } else {
    const at::Tensor ones = at::ones({head_dim_}, wide.options());
    y = (norm_.options.rms ? rms_norm(wide, ones, epsilon)
                           : layer_norm(wide, ones, at::zeros_like(ones), epsilon)) *
        scale;
  }
  if (norm_.bias) y = y + of_this_rank(norm_.bias->data, x.size(-2)).to(wide.scalar_type());
  return y.to(options_.compute_dtype.value_or(norm_.weight->data.scalar_type()));
}

at::Tensor L2Norm::normalize(const at::Tensor& x) const {
  return rms_norm(x, at::ones({x.size(-1)}, x.options()), epsilon_);
}

}  // namespace megatron
