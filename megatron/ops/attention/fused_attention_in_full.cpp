#include "megatron/ops/attention/fused_attention_in_full.h"

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_shapes.h"

namespace megatron {

namespace {

// For every token the number of its sequence and its place there, [tokens] each.
struct TokenPlaces {
  at::Tensor sequence, place;
};

TokenPlaces token_places(const at::Tensor& cu_seqlens, int64_t tokens, const at::Device& device) {
  const auto options = at::TensorOptions(at::kLong).device(device);
  const at::Tensor index = at::arange(tokens, options);
  if (!cu_seqlens.defined()) return {at::zeros_like(index), index};
  const at::Tensor starts = cu_seqlens.to(options);
  const at::Tensor sequence =
      at::searchsorted(starts, index, /*out_int32=*/false, /*right=*/true) - 1;
  return {sequence, index - starts.index_select(0, sequence)};
}

// [sq, sk], true where the query sees the key.
at::Tensor visible_scores(const at::Tensor& q, const at::Tensor& k,
                          const FusedAttentionOptions& options) {
  const at::Tensor& cu_seqlens_k =
      options.cu_seqlens_k.defined() ? options.cu_seqlens_k : options.cu_seqlens_q;
  const TokenPlaces queries = token_places(options.cu_seqlens_q, q.size(0), q.device());
  const TokenPlaces keys = token_places(cu_seqlens_k, k.size(0), q.device());
  const at::Tensor position = queries.place.unsqueeze(1) + options.query_offset;
  const AttentionWindow window = options.window.value_or(AttentionWindow{});
  at::Tensor visible = queries.sequence.unsqueeze(1) == keys.sequence;
  if (options.causal) visible = visible & (keys.place <= position);
  if (window.left >= 0) visible = visible & (keys.place >= position - window.left);
  if (window.right >= 0) visible = visible & (keys.place <= position + window.right);
  return visible;
}

template <typename Drop>
at::Tensor attention_in_full(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const FusedAttentionOptions& options, const Drop& drop) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
  if (q.numel() == 0 || k.numel() == 0) {
    // Nothing to compute; still a function of the inputs.
    return (q.sum() + k.sum() + v.sum()) * at::zeros({sq, b, n * v.size(3)}, q.options());
  }
  const at::Tensor keys = expand_groups(k, n), values = expand_groups(v, n);
  const at::Tensor products = at::bmm(heads_first(q), heads_first(keys).transpose(1, 2));
  at::Tensor scores =
      products.view({b, n, sq, sk}).to(accumulation_dtype(q.scalar_type())) * options.scale;
  const at::Tensor visible = visible_scores(q, k, options);
  scores = at::where(visible, scores, at::full({}, -INFINITY, scores.options()));
  // Relative to the row's maximum, which is not part of the derivative; 0 where nothing is seen.
  at::Tensor maximum = scores.detach().amax(-1, /*keepdim=*/true), sink;
  if (options.softmax_offset.defined()) {
    sink = options.softmax_offset.to(scores.scalar_type()).view({1, n, 1, 1});
    maximum = at::maximum(maximum, sink.detach());
  }
  maximum = at::where(maximum == -INFINITY, at::zeros_like(maximum), maximum);
  const at::Tensor weights = at::exp(scores - maximum);
  at::Tensor total = weights.sum(-1, /*keepdim=*/true);
  if (sink.defined()) total = total + at::exp(sink - maximum);
  total = at::where(total == 0, at::ones_like(total), total);
  const at::Tensor probs = drop((weights / total).to(q.scalar_type()));
  return heads_last(at::bmm(probs.view({b * n, sq, sk}), heads_first(values)), b);
}

}  // namespace

at::Tensor fused_attention_in_full(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const FusedAttentionOptions& options) {
  const AttentionDropout& dropout = options.dropout;
  return attention_in_full(q, k, v, options, [&](const at::Tensor& probs) {
    return attention_dropout(probs, dropout.p, dropout.key, dropout.queries, dropout.head_offset);
  });
}

namespace reference {

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const FusedAttentionOptions& options) {
  const AttentionDropout& dropout = options.dropout;
  return attention_in_full(q, k, v, options, [&](const at::Tensor& probs) {
    if (dropout.p == 0) return probs;
    const at::Tensor factors = attention_dropout_factors(probs.sizes(), dropout.p, dropout.key,
                                                         dropout.queries, dropout.head_offset);
    return probs * factors.to(probs.device(), probs.scalar_type());
  });
}

}  // namespace reference

}  // namespace megatron
