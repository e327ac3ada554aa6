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
  // Slots: self_attention, mlp; input_layernorm, pre_mlp_layernorm, post_self_attn_layernorm and
  // post_mlp_layernorm, which may be empty; self_attn_bda and mlp_bda (get_bias_dropout_add).
  explicit TransformerLayer(const BuildArguments& arguments);

  at::Tensor forward(const at::Tensor& hidden_states, const LayerInput& input,
                     const ForwardContext& context) const override;
  at::Tensor forward_attention(const at::Tensor& hidden_states, const LayerInput& input,
                               const ForwardContext& context) const override;
  at::Tensor forward_mlp(const at::Tensor& hidden_states,
                         const ForwardContext& context) const override;
  std::unique_ptr<DividedLayerPass> divided(const ForwardContext& context) const override;
  bool takes_arbitrary_masks() const override { return self_attention_->takes_arbitrary_masks(); }

 private:
  class DividedPass;

  // norm(x), or x without a norm.
  static Recomputation normalize(const std::shared_ptr<Norm>& norm, const at::Tensor& x,
                                 bool recompute);
  at::Tensor attention_branch(const at::Tensor& hidden_states, const LayerInput& input,
                              const ForwardContext& context) const;
  at::Tensor mlp_branch(const at::Tensor& hidden_states, const ForwardContext& context) const;
  // With use_parallel_residual: `residual` + the MLP of `hidden_states`, the layer's input, or, with a
  // `shared_norm`, of its output, which is discarded.
  at::Tensor parallel_mlp_branch(const at::Tensor& hidden_states, const at::Tensor& residual,
                                 const ForwardContext& context,
                                 const Recomputation* shared_norm = nullptr) const;
  // With use_parallel_residual: the layer's output, or, as the first half of a layer, the MLP's
  // input and residual [2, s, b, h].
  at::Tensor parallel_branches(const at::Tensor& hidden_states, const LayerInput& input,
                               const ForwardContext& context, bool first_half) const;
  // residual + multiplier * dropout(post_norm(branch.output + branch.bias)). `hidden_states` are
  // the layer's input and `normed` the branch's: the residual is one of them. `post_norm` may be
  // null.
  at::Tensor add_to_residual(const OutputAndBias& branch, const std::shared_ptr<Norm>& post_norm,
                             const at::Tensor& hidden_states, const at::Tensor& normed,
                             DropoutSite site, const ForwardContext& context) const;

  int64_t layer_number_;
  double hidden_dropout_, residual_multiplier_;
  bool residual_after_norm_;  // apply_residual_connection_post_layernorm
  bool recomputes_norms_;
  std::optional<at::ScalarType> autocast_dtype_;
  bool is_parallel_, shares_norm_;  // use_parallel_residual, share_parallel_layernorm
  // Null: the next module normalizes, or nothing does.
  std::shared_ptr<Norm> input_layernorm_, pre_mlp_layernorm_;
  std::shared_ptr<Norm> post_self_attn_layernorm_, post_mlp_layernorm_;  // null: none
  std::shared_ptr<Attention> self_attention_;
  std::shared_ptr<FeedForward> mlp_;
};

}  // namespace megatron
