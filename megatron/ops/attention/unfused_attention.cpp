#include "megatron/ops/attention/unfused_attention.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_shapes.h"

namespace megatron {

namespace {

// `drop` applies dropout to the probabilities.
template <typename Drop>
at::Tensor composed_fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const AttentionOptions& options, const Drop& drop) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
  if (q.numel() == 0 || k.numel() == 0) {
    // Zeros, but connected to the inputs' graph.
    return (q.sum() + k.sum() + v.sum()) * at::zeros({sq, b, n * v.size(3)}, q.options());
  }
  const at::Tensor keys = expand_groups(k, n), values = expand_groups(v, n);
  const at::Tensor products = at::bmm(heads_first(q), heads_first(keys).transpose(1, 2));
  at::Tensor scores =
      products.view({b, n, sq, sk}).to(accumulation_dtype(q.scalar_type())) * options.scale;
  scores = soft_capped(scores, options.soft_cap);
  const at::Tensor masked = options.mask.materialize(sq, sk, q.device());
  scores = at::where(masked, at::full({}, -INFINITY, scores.options()), scores);
  // Scores are taken relative to the row's maximum, a constant for the derivative; to 0 in rows
  // that see no key.
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

at::Tensor unfused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const AttentionOptions& options) {
  const AttentionDropout& dropout = options.dropout;
  return composed_fused_attention(q, k, v, options, [&](const at::Tensor& probs) {
    return attention_dropout(probs, dropout.p, dropout.key, dropout.queries, dropout.head_offset);
  });
}

namespace reference {

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionOptions& options) {
  const AttentionDropout& dropout = options.dropout;
  return composed_fused_attention(q, k, v, options, [&](const at::Tensor& probs) {
    if (dropout.p == 0) return probs;
    const at::Tensor factors = attention_dropout_factors(probs.sizes(), dropout.p, dropout.key,
                                                         dropout.queries, dropout.head_offset);
    return probs * factors.to(probs.device(), probs.scalar_type());
  });
}

}  // namespace reference

}  // namespace megatron
