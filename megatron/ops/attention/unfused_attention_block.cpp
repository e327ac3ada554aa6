#include "megatron/ops/attention/unfused_attention_block.h"

#include <cmath>
#include <numbers>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_shapes.h"
#include "megatron/ops/attention/softmax_kernels.h"

namespace megatron {

namespace {

// Computed by both directions. The scores are [b, n, sq, sk], in the accumulation dtype.
struct MaskedScores {
  at::Tensor masked, scores;
  at::Tensor slope;  // derivative of the soft cap at each score; undefined without a cap
  at::Tensor queries, keys, values;  // [b * n, s, d]
};

MaskedScores masked_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionOptions& options) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
  const at::ScalarType wide = accumulation_dtype(q.scalar_type());
  MaskedScores result{.masked = options.mask.materialize(sq, sk, q.device()),
                      .scores = {},
                      .slope = {},
                      .queries = heads_first(q.to(wide)),
                      .keys = heads_first(expand_groups(k.to(wide), n)),
                      .values = heads_first(expand_groups(v.to(wide), n))};
  at::Tensor scores =
      (at::bmm(result.queries, result.keys.transpose(1, 2)) * options.scale).view({b, n, sq, sk});
  if (options.soft_cap > 0) {
    const at::Tensor share = at::tanh(scores / options.soft_cap);
    result.slope = 1 - share * share;
    scores = share * options.soft_cap;
  }
  if (options.bias.defined()) scores = scores + options.bias.to(wide);
  result.scores = at::where(result.masked, at::full({}, kMaskedScore, scores.options()), scores);
  return result;
}

// dropout(x) [b, n, sq, sk], whose columns are the keys' positions.
at::Tensor drop_at_positions(const at::Tensor& x, const AttentionOptions& options) {
  const AttentionDropout& dropout = options.dropout;
  if (dropout.p == 0) return x;
  const auto drop = [&](const at::Tensor& row) {
    return attention_dropout(row, dropout.p, dropout.key, dropout.queries, dropout.head_offset);
  };
  if (!options.mask.key_positions.defined()) return drop(x);
  const at::Tensor positions = options.mask.key_positions.to(x.device());
  std::vector<int64_t> shape = x.sizes().vec();
  shape[3] = options.mask.key_positions[-1].item<int64_t>() + 1;
  return drop(at::zeros(shape, x.options()).index_copy_(3, positions, x))
      .index_select(3, positions);
}

// Sums `gradient` over the dimensions that `like` broadcasts.
at::Tensor summed_like(const at::Tensor& gradient, const at::Tensor& like) {
  return gradient.sum_to_size(like.sizes()).to(like.scalar_type());
}

}  // namespace

AttentionBlockOutput unfused_attention_block(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionOptions& options) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0);
  const MaskedScores full = masked_scores(q, k, v, options);
  at::Tensor maximum = full.scores.amax(-1, /*keepdim=*/true), sink;
  if (options.softmax_offset.defined()) {
    sink = options.softmax_offset.to(maximum.scalar_type()).view({1, n, 1, 1});
    maximum = at::maximum(maximum, sink);
  }
  const at::Tensor weights = at::exp(full.scores - maximum);
  at::Tensor total = weights.sum(-1, /*keepdim=*/true);
  if (sink.defined()) total = total + at::exp(sink - maximum);
  const at::Tensor probs = drop_at_positions(weights / total, options);
  const at::Tensor out = at::bmm(probs.view({b * n, sq, k.size(0)}), full.values);
  // fp64: in rows that see no key the value is near -10000, where fp32 loses the logarithm.
  const at::Tensor lse =
      (maximum.to(at::kDouble) + total.to(at::kDouble).log()).squeeze(-1) * std::numbers::log2e;
  return {out.transpose(0, 1).reshape({sq, b, n, v.size(3)}).to(q.scalar_type()), lse};
}

AttentionBlockGradients unfused_attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                         const at::Tensor& v, const at::Tensor& out,
                                                         const at::Tensor& lse,
                                                         const at::Tensor& grad_out,
                                                         const AttentionOptions& options) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0), g = k.size(2);
  const MaskedScores full = masked_scores(q, k, v, options);
  const at::ScalarType wide = full.scores.scalar_type();
  const at::Tensor probs =
      at::exp2(full.scores.to(at::kDouble) * std::numbers::log2e - lse.unsqueeze(-1)).to(wide);
  const at::Tensor grad = heads_first(grad_out.to(wide));
  const at::Tensor projection =
      (heads_first(out.to(wide)) * grad).sum(-1, /*keepdim=*/true).view({b, n, sq, 1});
  const at::Tensor dropped = drop_at_positions(probs, options).view({b * n, sq, sk});
  const at::Tensor grad_probs =
      drop_at_positions(at::bmm(grad, full.values.transpose(1, 2)).view({b, n, sq, sk}), options);
  // Of the capped scores, then of the products of queries and keys.
  const at::Tensor grad_capped = (probs * (grad_probs - projection)).masked_fill(full.masked, 0);
  const at::Tensor grad_scores =
      (full.slope.defined() ? grad_capped * full.slope : grad_capped).view({b * n, sq, sk});

  const auto rows = [&](const at::Tensor& x) {  // [b * n, s, d] -> [s, b, n, d]
    return x.transpose(0, 1).reshape({x.size(1), b, n, x.size(2)});
  };
  // Sums over the query heads that share a key-value head.
  const auto by_group = [&](const at::Tensor& x) {
    return rows(x).view({sk, b, g, n / g, x.size(2)}).sum(3);
  };
  AttentionBlockGradients gradients{
      .q = (rows(at::bmm(grad_scores, full.keys)) * options.scale).to(q.scalar_type()),
      .k = (by_group(at::bmm(grad_scores.transpose(1, 2), full.queries)) * options.scale)
               .to(k.scalar_type()),
      .v = by_group(at::bmm(dropped.transpose(1, 2), grad)).to(v.scalar_type())};
  if (options.bias.defined()) {
    gradients.bias = summed_like(grad_capped, options.bias);
  }
  if (options.softmax_offset.defined()) {
    const at::Tensor sink = options.softmax_offset.to(at::kDouble).view({1, n, 1});
    const at::Tensor probability = at::exp2(sink * std::numbers::log2e - lse);
    gradients.softmax_offset = (-(probability * projection.squeeze(-1)).sum(at::IntArrayRef{0, 2}))
                                   .to(options.softmax_offset.scalar_type());
  }
  return gradients;
}

}  // namespace megatron
