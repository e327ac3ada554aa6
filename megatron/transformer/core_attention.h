// Scaled dot-product attention of this rank's heads, behind one interface: specs choose the class.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/config/transformer_config.h"
#include "megatron/tensor_parallel/layer_options.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"

namespace megatron {

class CoreAttention : public MegatronModule {
 public:
  // q [sq, b, n_p, d], k [sk, b, g_p, d], v [sk, b, g_p, dv] -> [sq, b, n_p * dv]. The last query
  // sees the last key.
  virtual at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const LayerInput& input, const ForwardContext& context) const = 0;
};

// Megatron's local DotProductAttention: flash attention where there is neither mask nor dropout,
// else the scores in full.
class DotProductAttention : public CoreAttention {
 public:
  // softmax_scale: what the scores are multiplied with; the configuration's where not given.
  DotProductAttention(const TransformerConfig& config, int64_t layer_number,
                      const LayerOptions& options,
                      std::optional<double> softmax_scale = std::nullopt);

  at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const LayerInput& input, const ForwardContext& context) const override;

 private:
  int64_t layer_number_;
  double softmax_scale_;
  double attention_dropout_;
  int64_t window_left_ = -1;  // keys that a query sees to its left; -1 is all
  int tp_rank_;
};

}  // namespace megatron
