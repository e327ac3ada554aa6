#include "megatron/ops/attention/attention_block_in_full.h"

#include <cmath>
#include <numbers>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_shapes.h"

namespace megatron {

namespace {

constexpr double kHiddenScore = -10000.0;  // Megatron's

// [1 or b, 1, sq, sk], true where the query does not see the key.
at::Tensor hidden_scores(const AttentionBlock& block, const at::Device& device) {
  const at::Tensor queries = block.query_positions.to(device).unsqueeze(1);
  const at::Tensor keys = block.key_positions.to(device).unsqueeze(0);
  const AttentionWindow window = block.window.value_or(AttentionWindow{});
  const int64_t right = block.causal ? 0 : window.right;
  at::Tensor hidden = at::zeros({queries.size(0), keys.size(1)}, keys.options().dtype(at::kBool));
  if (right >= 0) hidden = keys > queries + right;
  if (window.left >= 0) hidden = hidden.logical_or(keys < queries - window.left);
  if (block.cu_seqlens.defined()) {
    const at::Tensor starts = block.cu_seqlens.to(device);
    const auto sequence = [&](const at::Tensor& places) {
      return at::searchsorted(starts, places.contiguous(), /*out_int32=*/false, /*right=*/true);
    };
    hidden = hidden.logical_or(sequence(queries) != sequence(keys));
  }
  hidden = hidden.view({1, 1, hidden.size(0), hidden.size(1)});
  return block.mask.defined() ? hidden.logical_or(block.mask) : hidden;
}

// What both directions compute: [b, n, sq, sk] in the accumulation dtype.
struct FullScores {
  at::Tensor hidden, scores;
  at::Tensor queries, keys, values;  // [b * n, s, d]
};

FullScores full_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const AttentionBlock& block) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
  const at::ScalarType wide = accumulation_dtype(q.scalar_type());
  FullScores full{.hidden = hidden_scores(block, q.device()),
                  .scores = {},
                  .queries = heads_first(q.to(wide)),
                  .keys = heads_first(expand_groups(k.to(wide), n)),
                  .values = heads_first(expand_groups(v.to(wide), n))};
  at::Tensor scores =
      (at::bmm(full.queries, full.keys.transpose(1, 2)) * block.scale).view({b, n, sq, sk});
  if (block.bias.defined()) scores = scores + block.bias.to(wide);
  full.scores = at::where(full.hidden, at::full({}, kHiddenScore, scores.options()), scores);
  return full;
}

// dropout(x) [b, n, sq, sk] where the columns are places of the row.
at::Tensor drop_places(const at::Tensor& x, const AttentionBlock& block) {
  const AttentionDropout& dropout = block.dropout;
  if (dropout.p == 0) return x;
  const at::Tensor places = block.key_positions.to(x.device());
  std::vector<int64_t> shape = x.sizes().vec();
  shape[3] = block.key_positions[-1].item<int64_t>() + 1;
  const at::Tensor row = at::zeros(shape, x.options()).index_copy_(3, places, x);
  return attention_dropout(row, dropout.p, dropout.key, dropout.queries, dropout.head_offset)
      .index_select(3, places);
}

// The sum of `gradient` over the dimensions in which `like` has one element.
at::Tensor summed_like(const at::Tensor& gradient, const at::Tensor& like) {
  return gradient.sum_to_size(like.sizes()).to(like.scalar_type());
}

}  // namespace

AttentionBlockOutput attention_block_in_full(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionBlock& block) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0);
  const FullScores full = full_scores(q, k, v, block);
  at::Tensor maximum = full.scores.amax(-1, /*keepdim=*/true), sink;
  if (block.softmax_offset.defined()) {
    sink = block.softmax_offset.to(maximum.scalar_type()).view({1, n, 1, 1});
    maximum = at::maximum(maximum, sink);
  }
  const at::Tensor weights = at::exp(full.scores - maximum);
  at::Tensor total = weights.sum(-1, /*keepdim=*/true);
  if (sink.defined()) total = total + at::exp(sink - maximum);
  const at::Tensor probs = drop_places(weights / total, block);
  const at::Tensor out = at::bmm(probs.view({b * n, sq, k.size(0)}), full.values);
  // Hidden rows lie near -10000, where fp32 has lost the logarithm's decimals.
  const at::Tensor lse =
      (maximum.to(at::kDouble) + total.to(at::kDouble).log()).squeeze(-1) * std::numbers::log2e;
  return {out.transpose(0, 1).reshape({sq, b, n, v.size(3)}).to(q.scalar_type()), lse};
}

AttentionBlockGradients attention_block_in_full_backward(const at::Tensor& q, const at::Tensor& k,
                                                         const at::Tensor& v, const at::Tensor& out,
                                                         const at::Tensor& lse,
                                                         const at::Tensor& grad_out,
                                                         const AttentionBlock& block) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0), g = k.size(2);
  const FullScores full = full_scores(q, k, v, block);
  const at::ScalarType wide = full.scores.scalar_type();
  const at::Tensor probs =
      at::exp2(full.scores.to(at::kDouble) * std::numbers::log2e - lse.unsqueeze(-1)).to(wide);
  const at::Tensor grad = heads_first(grad_out.to(wide));
  const at::Tensor projection =
      (heads_first(out.to(wide)) * grad).sum(-1, /*keepdim=*/true).view({b, n, sq, 1});
  const at::Tensor dropped = drop_places(probs, block).view({b * n, sq, sk});
  const at::Tensor grad_probs =
      drop_places(at::bmm(grad, full.values.transpose(1, 2)).view({b, n, sq, sk}), block);
  const at::Tensor grad_scores =
      (probs * (grad_probs - projection)).masked_fill(full.hidden, 0).view({b * n, sq, sk});

  const auto rows = [&](const at::Tensor& x) {  // [b * n, s, d] -> [s, b, n, d]
    return x.transpose(0, 1).reshape({x.size(1), b, n, x.size(2)});
  };
  // Query heads that share a key-value head add up.
  const auto by_group = [&](const at::Tensor& x) {
    return rows(x).view({sk, b, g, n / g, x.size(2)}).sum(3);
  };
  AttentionBlockGradients gradients{
      .q = (rows(at::bmm(grad_scores, full.keys)) * block.scale).to(q.scalar_type()),
      .k = (by_group(at::bmm(grad_scores.transpose(1, 2), full.queries)) * block.scale)
               .to(k.scalar_type()),
      .v = by_group(at::bmm(dropped.transpose(1, 2), grad)).to(v.scalar_type())};
  if (block.bias.defined()) {
    gradients.bias = summed_like(grad_scores.view({b, n, sq, sk}), block.bias);
  }
  if (block.softmax_offset.defined()) {
    const at::Tensor sink = block.softmax_offset.to(at::kDouble).view({1, n, 1});
    const at::Tensor probability = at::exp2(sink * std::numbers::log2e - lse);
    gradients.softmax_offset = (-(probability * projection.squeeze(-1)).sum(at::IntArrayRef{0, 2}))
                                   .to(block.softmax_offset.scalar_type());
  }
  return gradients;
}

}  // namespace megatron
