// Self-attention with query groups: fused linear_qkv, rotary positions, core attention,
// linear_proj.
#pragma once

#include <functional>

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/inference_context.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/rotary.h"

namespace megatron {

struct SelfAttentionSubmodules {
  std::function<std::shared_ptr<CoreAttention>(const TransformerConfig&, int64_t layer_number,
                                               const LayerOptions&)>
      core_attention;
};

class SelfAttention : public MegatronModule {
 public:
  // layer_number: global, from 1.
  SelfAttention(const TransformerConfig& config, const SelfAttentionSubmodules& submodules,
                int64_t layer_number, const LayerOptions& options);

  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  OutputAndBias forward(const at::Tensor& hidden_states, const at::Tensor& attention_mask,
                        const RotaryTable& rotary, const ForwardContext& context,
                        InferenceContext* inference) const;

 private:
  struct QueryKeyValue {
    at::Tensor query, key, value;  // [s, b, n_p, d], [s, b, g_p, d] twice
  };
  QueryKeyValue query_key_value(const at::Tensor& hidden_states) const;

  TransformerConfig config_;
  LayerOptions options_;
  int64_t layer_number_;
  std::shared_ptr<CoreAttention> core_attention_;
  std::shared_ptr<RowParallelLinear> linear_proj_;
  std::shared_ptr<ColumnParallelLinear> linear_qkv_;
};

}  // namespace megatron
