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
  NormParameters(const TransformerConfig& config, std::vector<int64_t> shape,
                 const LayerOptions& options);

  // x in the parameters' dtype or wider -> the parameters' dtype (with autocast: the compute
  // dtype).
  at::Tensor normalize(const at::Tensor& x, const LayerOptions& layer_options) const;

  // The values of the bias, zeros for a LayerNorm without one; undefined for RMSNorm.
  at::Tensor shift() const;

  NormLinearOptions options;
  ParameterPtr weight, bias;  // no bias in RMSNorm, nor without layernorm_bias
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

// A norm of the heads of queries or keys, x [s, b, heads_p, d], that scales each head with its own
// weights (qk_layernorm_scope per_head and projection). With more tensor-parallel ranks than
// key-value heads, several ranks hold the same head.
class HeadsNorm : public Norm {
 public:
  // For `size` features of all heads of all ranks. The weights, [heads, d], or [heads * d] for a
  // projection, are on every rank; LayerOptions::sequence_parallel says that their gradients are
  // summed over the ranks.
  HeadsNorm(const TransformerConfig& config, int64_t size, const LayerOptions& options);

 private:
  at::Tensor normalize(const at::Tensor& x) const override;
  // x [..., heads_p, d] over the mean square of the heads of all ranks.
  at::Tensor normalize_projection(const at::Tensor& x) const;
  // The part of a parameter for this rank's heads: [heads_p, d].
  at::Tensor of_this_rank(const at::Tensor& values, int64_t heads_p) const;

  LayerOptions options_;
  bool is_projection_;
  int64_t heads_, head_dim_;
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
