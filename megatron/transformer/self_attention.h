// Grouped-query self-attention: linear_qkv, query and key norms, rotary embedding, core attention,
// output gate, linear_proj.
#pragma once

#include "megatron/tensor_parallel/parallel_linear.h"
#include "megatron/transformer/attention.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/norm.h"

namespace megatron {

class SelfAttention : public Attention {
 public:
  // Slots: linear_qkv, core_attention, linear_proj; q_layernorm and k_layernorm, which may be empty,
  // over the features of a head, or of all heads (HeadsNorm). Parameter: attn_mask_type.
  explicit SelfAttention(const BuildArguments& arguments);

  OutputAndBias forward(const at::Tensor& hidden_states, const LayerInput& input,
                        const ForwardContext& context) const override;
  bool takes_arbitrary_masks() const override { return takes_arbitrary_masks_; }

 private:
  struct Projections {
    at::Tensor query, gate;  // [s, b, n_p, d]; the gate may be undefined
    at::Tensor key, value;   // [s, b, g_p, d]
  };
  // `mixed` is the output of linear_qkv.
  Projections split(at::Tensor mixed) const;

  TransformerConfig config_;
  LayerOptions options_;
  int64_t layer_number_;
  bool has_rope_, has_window_, takes_arbitrary_masks_;
  std::shared_ptr<CoreAttention> core_attention_;
  std::shared_ptr<RowLinear> linear_proj_;
  std::shared_ptr<ColumnLinear> linear_qkv_;
  std::shared_ptr<Norm> q_layernorm_, k_layernorm_;  // may be null
};

}  // namespace megatron
