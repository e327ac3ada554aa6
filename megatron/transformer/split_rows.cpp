// DotProductAttention over rows of tokens that a context-parallel group shares.
#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/context_parallel/head_exchange.h"
#include "megatron/context_parallel/split_attention.h"
#include "megatron/transformer/core_attention.h"

namespace megatron {
namespace {

// `count` heads from `first` on of a bias [1 or b, 1 or n, sq, sk] (or undefined).
at::Tensor bias_of_heads(const at::Tensor& bias, int64_t first, int64_t count) {
  return bias.defined() && bias.size(1) > 1 ? bias.narrow(1, first, count) : bias;
}

// The rows of this rank's queries.
at::Tensor rows_of(const at::Tensor& scores, const at::Tensor& positions) {
  return scores.defined() ? scores.index_select(2, positions.to(scores.device())) : scores;
}

}  // namespace

at::Tensor DotProductAttention::attend_split_rows(const at::Tensor& q, const at::Tensor& k,
                                                  const at::Tensor& v, const LayerInput& input,
                                                  const ForwardContext& context) const {
  const int64_t s = q.size(0) * cp_->size(), n = q.size(2);
  const auto& packed = input.packed_seq_params;
  const SequenceSplit split{.length = s,
                            .size = cp_->size(),
                            .cu_seqlens = packed ? packed->checked_offsets(s) : at::Tensor()};
  if (cp_comm_type_ == CpCommType::a2a) {
    const int64_t heads = n / cp_->size(), first = heads * cp_->rank();
    LayerInput own = input;
    own.attention_bias = bias_of_heads(input.attention_bias, first, heads);
    HeadParts parts = head_parts(q, first, at::arange(s, at::kLong), context);
    if (parts.sinks.defined()) parts.sinks = parts.sinks.narrow(0, first, heads);
    return exchange_heads(q, k, v, split, cp_,
                          [&](const auto& query, const auto& key, const auto& value) {
                            return attend(query, key, value, own, context, parts);
                          });
  }
  const HeadParts parts = head_parts(q, /*first=*/0, context.positions, context);
  if (qk_clip_threshold_ && context.training) {
    check_scores(q, cp_->all_gather(k), context.positions, gathered_positions(split));
  }
  const bool fused = backend_for(q, k, input, parts.dropout.p) == AttentionBackend::fused;
  // A mask takes the place of the causal rule, as it does where rows are whole.
  return split_attention(
      q, k, v,
      {.cp = cp_,
       .split = split,
       .transport = cp_comm_type_ == CpCommType::p2p ? KeyTransport::ring : KeyTransport::gather,
       .scale = softmax_scale_,
       .causal = !input.attention_mask.defined() || packed.has_value(),
       .window = window_,
       .softmax_offset = parts.sinks,
       .dropout = parts.dropout,
       .in_full = !fused,
       .mask = rows_of(input.attention_mask, context.positions),
       .bias = rows_of(input.attention_bias, context.positions)});
}

}  // namespace megatron
