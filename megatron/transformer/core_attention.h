// Scaled dot-product attention of this rank's heads, behind one interface: layer specs choose the
// class.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/config/model/attention_backend.h"
#include "megatron/ops/attention/attention.h"
#include "megatron/tensor_parallel/layer_options.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"

namespace megatron {

class CoreAttention : public MegatronModule {
 public:
  // q [sq, b, n_p, d], k [sk, b, g_p, d], v [sk, b, g_p, dv] -> [sq, b, n_p * dv]. The last query
  // has the position of the last key. With context parallelism q, k and v are this rank's,
  // [s/cp, ...], and its queries see the keys of all ranks; the mask, bias and packed sequences of
  // the input are those of the full sequence.
  virtual at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const LayerInput& input, const ForwardContext& context) const = 0;

  // forward, recomputed in backward if `recompute`.
  at::Tensor forward_recomputed(bool recompute, const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v, const LayerInput& input,
                                const ForwardContext& context) const;
};

// Megatron's DotProductAttention, on the configured backend or, if that is automatic, on the
// fastest one that supports the call.
class DotProductAttention : public CoreAttention {
 public:
  // softmax_scale multiplies the scores; defaults to the configuration's.
  DotProductAttention(const TransformerConfig& config, int64_t layer_number,
                      const LayerOptions& options,
                      std::optional<double> softmax_scale = std::nullopt);

  at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const LayerInput& input, const ForwardContext& context) const override;

 private:
  // Inputs that depend on which heads a call computes.
  struct HeadInputs {
    AttentionDropout dropout;
    at::Tensor sinks;  // [n_p] logits of the attention sinks, or undefined
  };
  // For this rank's heads from `first` on, and queries at `positions`.
  HeadInputs head_inputs(const at::Tensor& q, int64_t first, const at::Tensor& positions,
                         const ForwardContext& context) const;
  at::Tensor sinks(const at::Tensor& q) const;
  AttentionBackend backend_for(const at::Tensor& q, const at::Tensor& k, const LayerInput& input,
                               double dropout) const;

  // Attention over full sequences.
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const LayerInput& input, const ForwardContext& context,
                    const HeadInputs& heads) const;
  // Attention over sequences that the context-parallel group shards
  // (core_attention_context_parallel.cpp).
  at::Tensor attend_context_parallel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const LayerInput& input, const ForwardContext& context) const;
  bool context_parallel() const { return cp_ != nullptr && cp_->size() > 1; }

  // The mask of a call without positions and packed sequences. As in Megatron, an attention mask
  // replaces the causal mask, except in packed sequences.
  AttentionMask attention_mask(const LayerInput& input) const;

  // QK-clip: throws Error if a score of a visible key exceeds the threshold.
  void check_scores(const at::Tensor& q, const at::Tensor& k, const AttentionMask& mask) const;

  int64_t layer_number_;
  AttentionBackend backend_;  // as configured
  AttentionDemands demands_;  // of every call in training
  double softmax_scale_;
  double soft_cap_;  // attn_logit_softcapping; 0: none
  // apply_query_key_layer_scaling: stored scores are divided by it before they are rounded, and
  // multiplied by it in the softmax.
  double layer_scaling_;
  double attention_dropout_;
  std::optional<AttentionWindow> window_;
  std::optional<double> qk_clip_threshold_;
  SoftmaxType softmax_type_;
  ParameterPtr softmax_offset_;  // of a learnable sink, else null
  int tp_rank_;
  CpCommType cp_comm_type_;
  ProcessGroupPtr cp_;  // or null
};

}  // namespace megatron
