// LayerNorm or RMSNorm over the last dimension, as TransformerConfig::normalization says.
#pragma once

#include "megatron/base/hooked_module.h"
#include "megatron/config/model/transformer_config.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

class Norm : public HookedModule {
 public:
  Norm(const TransformerConfig& config, int64_t hidden_size, const LayerOptions& options);

  // x [..., hidden_size] in the parameters' dtype or wider -> the same shape in the parameters'
  // dtype.
  at::Tensor forward(const at::Tensor& x) const;

 private:
  at::Tensor normalize(const at::Tensor& x) const;

  Normalization kind_;
  double epsilon_;
  bool zero_centered_;          // scale is 1 + weight
  ParameterPtr weight_, bias_;  // RMSNorm has no bias
};

}  // namespace megatron
