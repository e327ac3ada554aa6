// A transformer layer, built from a table of factories.
#pragma once

#include <functional>

#include "megatron/base/hooked_module.h"
#include "megatron/transformer/attention.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/norm.h"

namespace megatron {

// A layer's spec: a factory for each submodule.
struct TransformerLayerSubmodules {
  using NormFactory =
      std::function<std::shared_ptr<Norm>(const TransformerConfig&, const LayerOptions&)>;
  using AttentionFactory = std::function<std::shared_ptr<Attention>(
      const TransformerConfig&, int64_t layer_number, const LayerOptions&)>;
  NormFactory input_layernorm;
  AttentionFactory self_attention;
  NormFactory pre_mlp_layernorm;
  std::function<std::shared_ptr<MLP>(const TransformerConfig&, const LayerOptions&)> mlp;
};

class TransformerLayer : public HookedModule {
 public:
  // layer_number: global, from 1.
  TransformerLayer(const TransformerConfig& config, const TransformerLayerSubmodules& submodules,
                   int64_t layer_number, const LayerOptions& options);

  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(const at::Tensor& hidden_states, const LayerInput& input,
                     const ForwardContext& context) const;

  // The two halves of forward, each with its norm and residual addition. Schedule plans call them
  // separately, each between the module's forward hooks.
  at::Tensor forward_attention(const at::Tensor& hidden_states, const LayerInput& input,
                               const ForwardContext& context) const;
  at::Tensor forward_mlp(const at::Tensor& hidden_states, const ForwardContext& context) const;

 private:
  at::Tensor attention_branch(const at::Tensor& hidden_states, const LayerInput& input,
                              const ForwardContext& context) const;
  at::Tensor mlp_branch(const at::Tensor& hidden_states, const ForwardContext& context) const;
  // residual + dropout(branch.output + branch.bias)
  at::Tensor add_to_residual(const OutputAndBias& branch, const at::Tensor& residual,
                             DropoutSite site, const ForwardContext& context) const;

  int64_t layer_number_;
  double hidden_dropout_;
  bool residual_after_norm_;  // apply_residual_connection_post_layernorm
  bool recomputes_norms_;
  std::shared_ptr<Norm> input_layernorm_, pre_mlp_layernorm_;
  std::shared_ptr<Attention> self_attention_;
  std::shared_ptr<MLP> mlp_;
};

}  // namespace megatron
