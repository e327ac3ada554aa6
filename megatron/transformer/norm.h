// Norms over the last dimension.
#pragma once

#include "megatron/base/hooked_module.h"
#include "megatron/config/model/transformer_config.h"
#include "megatron/ops/norm_linear.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

// Interface of the norms in a layer's slots.
class Norm : public HookedModule {
 public:
  // x [..., size] -> the same shape.
  at::Tensor forward(const at::Tensor& x) const {
    return with_hooks([&] { return normalize(x); });
  }

 private:
  virtual at::Tensor normalize(const at::Tensor& x) const = 0;
};

// Weight, bias and kind of a norm: LayerNorm or RMSNorm, as TransformerConfig::normalization says.
struct NormParameters {
  NormParameters(const TransformerConfig& config, int64_t size, const LayerOptions& options);

  // x in the parameters' dtype or wider -> the parameters' dtype (with autocast: the compute
  // dtype).
  at::Tensor normalize(const at::Tensor& x, const LayerOptions& layer_options) const;

  NormLinearOptions options;
  ParameterPtr weight, bias;  // RMSNorm has no bias
};

// A norm that scales, and shifts in a LayerNorm.
class WeightedNorm : public Norm {
 public:
  WeightedNorm(const TransformerConfig& config, int64_t size, const LayerOptions& options);

 private:
  at::Tensor normalize(const at::Tensor& x) const override { return norm_.normalize(x, options_); }

  LayerOptions options_;
  NormParameters norm_;
};

// x / sqrt(mean(x^2) + epsilon), without parameters.
class L2Norm : public Norm {
 public:
  explicit L2Norm(const TransformerConfig& config) : epsilon_(config.layernorm_epsilon) {}

 private:
  at::Tensor normalize(const at::Tensor& x) const override;

  double epsilon_;
};

}  // namespace megatron
