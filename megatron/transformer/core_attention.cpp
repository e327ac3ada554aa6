#include "megatron/transformer/core_attention.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/attention.h"

namespace megatron {
namespace {

// 1 / sqrt(d); with MuP sqrt(base head width) / d^power.
double softmax_scale_of(const TransformerConfig& config) {
  if (config.softmax_scale) return *config.softmax_scale;
  const auto d = static_cast<double>(config.head_dim());
  if (!config.mup.use_mup) return 1.0 / std::sqrt(d);
  return std::sqrt(config.mup.mup_base_head_dim.value_or(1.0)) /
         std::pow(d, config.mup.mup_attn_scale_power);
}

}  // namespace

DotProductAttention::DotProductAttention(const TransformerConfig& config, int64_t layer_number,
                                         const LayerOptions& options,
                                         std::optional<double> softmax_scale)
    : layer_number_(layer_number),
      softmax_scale_(softmax_scale.value_or(softmax_scale_of(config))),
      attention_dropout_(config.attention_dropout),
      tp_rank_(options.tp->rank()) {
  if (config.has_window(layer_number)) window_left_ = config.window_size[0];
}

at::Tensor DotProductAttention::forward(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const LayerInput& input,
                                        const ForwardContext& context) const {
  const int64_t queries = q.size(0), keys = k.size(0);
  at::Tensor mask = input.attention_mask;
  if (mask.defined()) {
    check(mask.dim() == 4 && mask.size(1) == 1 && mask.size(2) == queries && mask.size(3) == keys &&
              (mask.size(0) == 1 || mask.size(0) == q.size(1)),
          "Expected an attention mask of shape [1 or {}, 1, {}, {}], but got {}", q.size(1),
          queries, keys, mask.sizes().vec());
  }
  if (input.packed_seq_params) {
    const at::Tensor others = input.packed_seq_params->block_diagonal_mask(queries).to(q.device());
    mask = mask.defined() ? mask.logical_or(others) : others;
  }
  const double p = context.dropout_probability(attention_dropout_);
  if (!mask.defined() && p == 0.0 && queries == keys && window_left_ < 0)
    return causal_attention(q, k, v, softmax_scale_);
  if (window_left_ >= 0) {
    const at::Tensor order = at::arange(keys, q.options().dtype(at::kLong));
    const at::Tensor last =
        at::arange(keys - queries, keys, q.options().dtype(at::kLong)).unsqueeze(1);
    const at::Tensor outside =
        order.gt(last).logical_or(order.lt(last - window_left_)).view({1, 1, queries, keys});
    mask = mask.defined() ? mask.logical_or(outside) : outside;
  }
  const AttentionDropout dropout{.p = p,
                                 .key = context.key(layer_number_, DropoutSite::attention),
                                 .queries = context.attention_index(),
                                 .head_offset = tp_rank_ * q.size(2)};
  return core_attention(q, k, v, softmax_scale_, mask, /*causal=*/!mask.defined(),
                        /*query_offset=*/keys - queries, p > 0.0 ? &dropout : nullptr);
}

}  // namespace megatron
