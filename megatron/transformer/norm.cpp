#include "megatron/transformer/norm.h"

#include "megatron/ops/norm.h"

namespace megatron {

Norm::Norm(const TransformerConfig& config, int64_t hidden_size, const LayerOptions& options)
    : kind_(config.normalization), epsilon_(config.layernorm_epsilon) {
  const auto make = [&](double value) {
    auto parameter =
        std::make_shared<Parameter>(std::vector<int64_t>{hidden_size}, options.tensor,
                                    options.sharding(), Initialization::constant(value));
    parameter->sequence_parallel = options.sequence_parallel;
    return parameter;
  };
  weight_ = register_parameter("weight", make(1));
  if (kind_ == Normalization::LayerNorm) bias_ = register_parameter("bias", make(0));
}

at::Tensor Norm::forward(const at::Tensor& x) const {
  return kind_ == Normalization::LayerNorm ? layer_norm(x, weight_->data, bias_->data, epsilon_)
                                           : rms_norm(x, weight_->data, epsilon_);
}

}  // namespace megatron
