// Blocks of attention: checks, the choice of implementation, the fused kernels' call, the merge.
#include "megatron/ops/attention/attention_block.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_block_in_full.h"
#include "megatron/ops/attention/attention_shapes.h"
#include "megatron/ops/attention/fused_attention_views.h"

namespace megatron {

namespace {

constexpr std::string_view kAttentionBlock = "attention_block";

bool holds_scores(const at::Tensor& q, const AttentionBlock& block) {
  return block.in_full || !use_cpu_kernel(q);
}

void check_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const AttentionBlock& block) {
  check_attention(q, k, v, kAttentionBlock);
  check(q.size(0) > 0 && k.size(0) > 0,
        "{}: Expected at least 1 query and 1 key, but got {} and {}", kAttentionBlock, q.size(0),
        k.size(0));
  check_ordinals(block.query_positions, q.size(0), kAttentionBlock, "query_positions");
  check_ordinals(block.key_positions, k.size(0), kAttentionBlock, "key_positions");
  if (block.cu_seqlens.defined()) {
    check_ordinals(block.cu_seqlens, block.cu_seqlens.numel(), kAttentionBlock, "cu_seqlens");
  }
  check_softmax_offset(block.softmax_offset, q, kAttentionBlock);
  check(block.in_full || (block.causal && !block.mask.defined() && !block.bias.defined()),
        "{}: Expected in_full with a mask, a bias or no causal rule, but got one without",
        kAttentionBlock);
  if (block.dropout.p == 0) return;
  check_ordinals(block.dropout.queries.sample_ordinals, q.size(1), kAttentionBlock,
                 "sample_ordinals");
  check_ordinals(block.dropout.queries.positions, q.size(0), kAttentionBlock, "positions");
}

// The keys that each query sees, by their rows. Places ascend, and so do both bounds.
std::vector<kernels::KeyRange> visible_ranges(const AttentionBlock& block) {
  const int64_t *query = block.query_positions.const_data_ptr<int64_t>(),
                *key = block.key_positions.const_data_ptr<int64_t>();
  const int64_t *key_end = key + block.key_positions.numel(), *starts = nullptr,
                *starts_end = nullptr;
  if (block.cu_seqlens.defined()) {
    starts = block.cu_seqlens.const_data_ptr<int64_t>();
    starts_end = starts + block.cu_seqlens.numel();
  }
  const int64_t left = block.window ? block.window->left : -1;
  std::vector<kernels::KeyRange> ranges;
  for (int64_t i = 0; i < block.query_positions.numel(); ++i) {
    int64_t lowest = starts == nullptr ? 0 : *(std::upper_bound(starts, starts_end, query[i]) - 1);
    if (left >= 0) lowest = std::max(lowest, query[i] - left);
    const int64_t first = std::lower_bound(key, key_end, lowest) - key;
    const int64_t last = std::upper_bound(key, key_end, query[i]) - key;
    ranges.push_back({first, std::max(first, last)});
  }
  return ranges;
}

// Calls body(shape) with the shape that the fused kernels take.
template <typename Body>
void with_block_shape(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const AttentionBlock& block, const Body& body) {
  const std::vector<kernels::KeyRange> visible = visible_ranges(block);
  kernels::FusedAttentionShape shape{.sequences = {},
                                     .sq = q.size(0),
                                     .b = q.size(1),
                                     .n = q.size(2),
                                     .g = k.size(2),
                                     .d = q.size(3),
                                     .dv = v.size(3),
                                     .scale = block.scale,
                                     .query_offset = 0,
                                     .left = -1,
                                     .right = -1,
                                     .dropout = nullptr,
                                     .visible = visible.data(),
                                     .columns = block.key_positions.const_data_ptr<int64_t>()};
  for (int64_t i = 0; i < shape.b; ++i) shape.sequences.push_back({i, 0, shape.sq, 0, k.size(0)});
  if (block.dropout.p == 0) return body(shape);
  const kernels::DropoutRows rows = dropout_rows(block.dropout, q, k);
  shape.dropout = &rows;
  body(shape);
}

at::Tensor wide_sink(const AttentionBlock& block, const at::Tensor& q) {
  if (!block.softmax_offset.defined()) return {};
  return block.softmax_offset.to(accumulation_dtype(q.scalar_type())).contiguous();
}

}  // namespace

AttentionBlockOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionBlock& block) {
  check_block(q, k, v, block);
  if (holds_scores(q, block)) return attention_block_in_full(q, k, v, block);
  const at::Tensor query = with_dense_rows(q), key = with_dense_rows(k), value = with_dense_rows(v);
  const at::Tensor sink = wide_sink(block, q);
  AttentionBlockOutput result{
      .out = at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options()),
      .lse = at::empty({q.size(1), q.size(2), q.size(0)},
                       q.options().dtype(accumulation_dtype(q.scalar_type())))};
  dispatch_dtype(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_block_shape(query, key, value, block, [&](const kernels::FusedAttentionShape& shape) {
      kernels::fused_attention_forward<T>(shape, attention_inputs<T>(query, key, value, sink),
                                          head_view<T>(result.out),
                                          result.lse.mutable_data_ptr<lanes::accumulation_t<T>>());
    });
  });
  return result;
}

AttentionBlockOutput merged(const AttentionBlockOutput& one, const AttentionBlockOutput& other) {
  const at::ScalarType wide = accumulation_dtype(one.out.scalar_type());
  at::Tensor maximum = at::maximum(one.lse, other.lse);
  // Where neither saw anything, any reference does.
  maximum = at::where(maximum == -INFINITY, at::zeros_like(maximum), maximum);
  const at::Tensor weight = at::exp2(one.lse - maximum),
                   other_weight = at::exp2(other.lse - maximum);
  const at::Tensor total = weight + other_weight;
  const at::Tensor divisor = at::where(total == 0, at::ones_like(total), total);
  const auto share = [&](const at::Tensor& part) {  // [b, n, sq] -> [sq, b, n, 1]
    return (part / divisor).permute({2, 0, 1}).unsqueeze(-1).to(wide);
  };
  return {.out = one.out.to(wide) * share(weight) + other.out.to(wide) * share(other_weight),
          .lse = maximum + total.log2()};
}

AttentionBlockGradients attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& out,
                                                 const at::Tensor& lse, const at::Tensor& grad_out,
                                                 const AttentionBlock& block) {
  check_block(q, k, v, block);
  if (holds_scores(q, block)) {
    return attention_block_in_full_backward(q, k, v, out, lse, grad_out, block);
  }
  const at::Tensor query = with_dense_rows(q), key = with_dense_rows(k), value = with_dense_rows(v);
  const at::Tensor sink = wide_sink(block, q), from = grad_out.contiguous();
  AttentionBlockGradients gradients{.q = at::empty(q.sizes(), q.options()),
                                    .k = at::empty(k.sizes(), k.options()),
                                    .v = at::empty(v.sizes(), v.options()),
                                    .softmax_offset = sink.defined() ? at::empty_like(sink) : sink,
                                    .bias = {}};
  dispatch_dtype(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_block_shape(query, key, value, block, [&](const kernels::FusedAttentionShape& shape) {
      kernels::fused_attention_backward<T>(
          shape, attention_inputs<T>(query, key, value, sink), head_view<const T>(out),
          head_view<const T>(from), lse.const_data_ptr<A>(),
          {head_view<T>(gradients.q), head_view<T>(gradients.k), head_view<T>(gradients.v),
           data_or_null<A>(gradients.softmax_offset)});
    });
  });
  if (sink.defined()) {
    gradients.softmax_offset = gradients.softmax_offset.to(block.softmax_offset.scalar_type());
  }
  return gradients;
}

}  // namespace megatron
