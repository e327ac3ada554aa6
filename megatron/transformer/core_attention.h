// Scaled dot-product attention of this rank's heads, behind one interface: specs choose the class.
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
  // sees the last key. With context parallelism all are this rank's, [s/cp, ...], and every rank's
  // queries see the keys of all; the input's mask, bias and packed sequences are the whole row's.
  virtual at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const LayerInput& input, const ForwardContext& context) const = 0;

  // forward, computed again in backward if `wanted`.
  at::Tensor forward_recomputed(bool wanted, const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v, const LayerInput& input,
                                const ForwardContext& context) const;
};

// Megatron's DotProductAttention, on the backend that the configuration names or, automatic, on the
// fastest that can do what a call asks.
class DotProductAttention : public CoreAttention {
 public:
  // softmax_scale: what the scores are multiplied with; the configuration's where not given.
  DotProductAttention(const TransformerConfig& config, int64_t layer_number,
                      const LayerOptions& options,
                      std::optional<double> softmax_scale = std::nullopt);

  at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const LayerInput& input, const ForwardContext& context) const override;

 private:
  // What a part of the heads draws and weighs with.
  struct HeadParts {
    AttentionDropout dropout;
    at::Tensor sinks;  // the logits [n_p] of the heads' sinks, or undefined
  };
  // Of the heads from `first` of this rank's heads on, for queries at `positions`.
  HeadParts head_parts(const at::Tensor& q, int64_t first, const at::Tensor& positions,
                       const ForwardContext& context) const;
  at::Tensor sinks(const at::Tensor& q) const;
  AttentionBackend backend_for(const at::Tensor& q, const at::Tensor& k, const LayerInput& input,
                               double dropout) const;

  // Over whole rows.
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const LayerInput& input, const ForwardContext& context,
                    const HeadParts& parts) const;
  // Over rows that are split over the context-parallel group (split_rows.cpp).
  at::Tensor attend_split_rows(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const LayerInput& input, const ForwardContext& context) const;
  bool splits_rows() const { return cp_ != nullptr && cp_->size() > 1; }

  // QK-clip: throws Error where a score of a visible key passes the threshold. Places in the row:
  // [sq] and [sk].
  void check_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& query_positions,
                    const at::Tensor& key_positions) const;

  int64_t layer_number_;
  AttentionBackend backend_;  // as asked
  AttentionDemands demands_;  // of every call in training
  double softmax_scale_;
  // apply_query_key_layer_scaling: held scores are divided by this before they are rounded, and
  // multiplied by it inside the softmax.
  double layer_scaling_;
  double attention_dropout_;
  std::optional<AttentionWindow> window_;
  std::optional<double> qk_clip_threshold_;
  SoftmaxType softmax_type_;
  ParameterPtr softmax_offset_;  // null but for a learnable sink
  int tp_rank_;
  CpCommType cp_comm_type_;
  ProcessGroupPtr cp_;  // who shares a row, or null
};

}  // namespace megatron
