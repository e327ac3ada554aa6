// DotProductAttention over sequences that a context-parallel group shards.
#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/context_parallel/all_to_all_attention.h"
#include "megatron/context_parallel/context_parallel_attention.h"
#include "megatron/transformer/core_attention.h"

namespace megatron {
namespace {

// The bias [1 or b, 1 or n, sq, sk] (or undefined) of heads first .. first + count - 1.
at::Tensor bias_of_heads(const at::Tensor& bias, int64_t first, int64_t count) {
  return bias.defined() && bias.size(1) > 1 ? bias.narrow(1, first, count) : bias;
}

// The rows of a mask or bias for this rank's queries.
at::Tensor rows_of(const at::Tensor& scores, const at::Tensor& positions) {
  return scores.defined() ? scores.index_select(2, positions.to(scores.device())) : scores;
}

}  // namespace

at::Tensor DotProductAttention::attend_context_parallel(const at::Tensor& q, const at::Tensor& k,
                                                        const at::Tensor& v,
                                                        const LayerInput& input,
                                                        const ForwardContext& context) const {
  const int64_t s = q.size(0) * cp_->size(), n = q.size(2);
  const auto& packed = input.packed_seq_params;
  const SequenceSplit split{.length = s,
                            .size = cp_->size(),
                            .cu_seqlens = packed ? packed->checked_offsets(s) : at::Tensor()};
  if (cp_comm_type_ == CpCommType::a2a) {
    const int64_t heads_per_rank = n / cp_->size(), first = heads_per_rank * cp_->rank();
    LayerInput local = input;
    local.attention_bias = bias_of_heads(input.attention_bias, first, heads_per_rank);
    HeadInputs heads = head_inputs(q, first, at::arange(s, at::kLong), context);
    if (heads.sinks.defined()) heads.sinks = heads.sinks.narrow(0, first, heads_per_rank);
    return all_to_all_attention(q, k, v, split, cp_,
                                [&](const auto& query, const auto& key, const auto& value) {
                                  return attend(query, key, value, local, context, heads);
                                });
  }
  const HeadInputs heads = head_inputs(q, /*first=*/0, context.positions, context);
  AttentionMask mask = attention_mask(input);
  mask.masked = rows_of(mask.masked, context.positions);
  if (qk_clip_threshold_ && context.training) {
    AttentionMask complete = mask;
    complete.query_positions = context.positions;
    complete.key_positions = at::arange(s, at::kLong);
    complete.cu_seqlens_q = split.cu_seqlens;
    const at::Tensor order = inverse_permutation(gathered_positions(split)).to(k.device());
    check_scores(q, cp_->all_gather(k).index_select(0, order), complete);
  }
  const bool fused = backend_for(q, k, input, heads.dropout.p) == AttentionBackend::fused;
  return context_parallel_attention(
      q, k, v,
      {.cp = cp_,
       .split = split,
       .exchange = cp_comm_type_ == CpCommType::p2p ? KeyExchange::p2p : KeyExchange::all_gather,
       .attention = {.scale = softmax_scale_,
                     .soft_cap = soft_cap_,
                     .mask = mask,
                     .bias = rows_of(input.attention_bias, context.positions),
                     .softmax_offset = heads.sinks,
                     .dropout = heads.dropout},
       .unfused = !fused});
}

}  // namespace megatron
