#include "megatron/transformer/core_attention.h"

#include <cmath>

#include "megatron/base/error.h"
#include "megatron/ops/attention.h"

namespace megatron {

DotProductAttention::DotProductAttention(const TransformerConfig& config, int64_t layer_number,
                                         const LayerOptions& options)
    : layer_number_(layer_number),
      softmax_scale_(
          config.softmax_scale.value_or(1.0 / std::sqrt(static_cast<double>(config.head_dim())))),
      attention_dropout_(config.attention_dropout),
      tp_rank_(options.tp->rank()) {}

at::Tensor DotProductAttention::forward(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& attention_mask,
                                        const ForwardContext& context) const {
  const int64_t queries = q.size(0), keys = k.size(0);
  if (attention_mask.defined()) {
    check(attention_mask.dim() == 4 && attention_mask.size(1) == 1 &&
              attention_mask.size(2) == queries && attention_mask.size(3) == keys &&
              (attention_mask.size(0) == 1 || attention_mask.size(0) == q.size(1)),
          "Expected an attention mask of shape [1 or {}, 1, {}, {}], but got {}", q.size(1),
          queries, keys, attention_mask.sizes().vec());
  }
  const double p = context.dropout_probability(attention_dropout_);
  if (!attention_mask.defined() && p == 0.0 && queries == keys)
    return causal_attention(q, k, v, softmax_scale_);
  const AttentionDropout dropout{.p = p,
                                 .key = context.key(layer_number_, DropoutSite::attention),
                                 .queries = context.attention_index(),
                                 .head_offset = tp_rank_ * q.size(2)};
  return core_attention(q, k, v, softmax_scale_, attention_mask,
                        /*causal=*/!attention_mask.defined(),
                        /*query_offset=*/keys - queries, p > 0.0 ? &dropout : nullptr);
}

}  // namespace megatron
