// Grouped-query self-attention: linear_qkv, query and key norms, rotary embedding, core attention,
// output gate, linear_proj.
#pragma once

#include <functional>

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/attention.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/norm.h"

namespace megatron {

struct SelfAttentionSubmodules {
  std::function<std::shared_ptr<CoreAttention>(const TransformerConfig&, int64_t layer_number,
                                               const LayerOptions&)>
      core_attention;
  // Norm over head_dim features; may be empty or return null.
  std::function<std::shared_ptr<Norm>(const TransformerConfig&, const LayerOptions&)> q_layernorm,
      k_layernorm;
};

class SelfAttention : public Attention {
 public:
  // layer_number: global, from 1.
  SelfAttention(const TransformerConfig& config, const SelfAttentionSubmodules& submodules,
                int64_t layer_number, const LayerOptions& options);

  OutputAndBias forward(const at::Tensor& hidden_states, const LayerInput& input,
                        const ForwardContext& context) const override;

 private:
  struct Projections {
    at::Tensor query, gate;  // [s, b, n_p, d]; the gate may be undefined
    at::Tensor key, value;   // [s, b, g_p, d]
  };
  Projections project(const at::Tensor& hidden_states) const;
  at::Tensor normalized(const at::Tensor& heads, const std::shared_ptr<Norm>& norm) const;

  TransformerConfig config_;
  LayerOptions options_;
  int64_t layer_number_;
  bool has_rope_;
  std::shared_ptr<CoreAttention> core_attention_;
  std::shared_ptr<RowParallelLinear> linear_proj_;
  std::shared_ptr<ColumnParallelLinear> linear_qkv_;
  std::shared_ptr<Norm> q_layernorm_, k_layernorm_;
};

}  // namespace megatron
