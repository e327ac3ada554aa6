#include "megatron/transformer/norm.h"

#include "megatron/ops/norm.h"

namespace megatron {

Norm::Norm(const TransformerConfig& config, int64_t hidden_size, const LayerOptions& options)
    : kind_(config.normalization),
      epsilon_(config.layernorm_epsilon),
      zero_centered_(config.layernorm_zero_centered_gamma) {
  const auto make = [&](double value) {
    auto parameter =
        std::make_shared<Parameter>(std::vector<int64_t>{hidden_size}, options.tensor,
                                    options.sharding(), Initialization::constant(value));
    parameter->sequence_parallel = options.sequence_parallel;
    return parameter;
  };
  weight_ = register_parameter("weight", make(zero_centered_ ? 0 : 1));
  if (kind_ == Normalization::LayerNorm) bias_ = register_parameter("bias", make(0));
}

at::Tensor Norm::forward(const at::Tensor& x) const {
  return with_hooks([&] { return normalize(x); });
}

at::Tensor Norm::normalize(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  at::Tensor weight = weight_->data.to(dtype);
  if (zero_centered_) weight = weight + 1;
  const at::Tensor y = kind_ == Normalization::LayerNorm
                           ? layer_norm(x, weight, bias_->data.to(dtype), epsilon_)
                           : rms_norm(x, weight, epsilon_);
  return y.to(weight_->data.scalar_type());
}

}  // namespace megatron
