// A transformer layer of the modules that its spec names.
#pragma once

#include "megatron/transformer/attention.h"
#include "megatron/transformer/base_transformer_layer.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/feed_forward.h"
#include "megatron/transformer/norm.h"

namespace megatron {

// The module of the slots self_attn_bda and mlp_bda: bias, dropout and residual addition fused.
inline constexpr const char* kBiasDropoutAdd = "get_bias_dropout_add";

class TransformerLayer : public BaseTransformerLayer {
 public:
  // Slots: self_attention, mlp; input_layernorm and pre_mlp_layernorm, which may be empty;
  // self_attn_bda and mlp_bda (get_bias_dropout_add).
  explicit TransformerLayer(const BuildArguments& arguments);

  at::Tensor forward(const at::Tensor& hidden_states, const LayerInput& input,
                     const ForwardContext& context) const override;
  at::Tensor forward_attention(const at::Tensor& hidden_states, const LayerInput& input,
                               const ForwardContext& context) const override;
  at::Tensor forward_mlp(const at::Tensor& hidden_states,
                         const ForwardContext& context) const override;
  bool takes_arbitrary_masks() const override { return self_attention_->takes_arbitrary_masks(); }

 private:
  at::Tensor attention_branch(const at::Tensor& hidden_states, const LayerInput& input,
                              const ForwardContext& context) const;
  at::Tensor mlp_branch(const at::Tensor& hidden_states, const ForwardContext& context) const;
  // residual + dropout(branch.output + branch.bias). `hidden_states` are the layer's input and
  // `normed` the branch's: the residual is one of them.
  at::Tensor add_to_residual(const OutputAndBias& branch, const at::Tensor& hidden_states,
                             const at::Tensor& normed, DropoutSite site,
                             const ForwardContext& context) const;

  int64_t layer_number_;
  double hidden_dropout_;
  bool residual_after_norm_;  // apply_residual_connection_post_layernorm
  bool recomputes_norms_;
  std::shared_ptr<Norm> input_layernorm_, pre_mlp_layernorm_;  // null: the next module normalizes
  std::shared_ptr<Attention> self_attention_;
  std::shared_ptr<FeedForward> mlp_;
};

}  // namespace megatron
