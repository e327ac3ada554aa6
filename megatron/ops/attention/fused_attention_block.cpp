#include "megatron/ops/attention/fused_attention_block.h"

#include <type_traits>

#include <ATen/ATen.h>

#include "megatron/ops/attention/fused_attention_kernels.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/random/dropout_mask.h"

namespace megatron {

namespace {

template <typename T>
kernels::HeadView<T> head_view(const at::Tensor& x) {
  if constexpr (std::is_const_v<T>) {
    return {x.const_data_ptr<std::remove_const_t<T>>(), x.stride(0), x.stride(1), x.stride(2)};
  } else {
    return {x.mutable_data_ptr<T>(), x.stride(0), x.stride(1), x.stride(2)};
  }
}

template <typename T>
kernels::AttentionInputs<T> attention_inputs(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const at::Tensor& sink) {
  return {head_view<const T>(q), head_view<const T>(k), head_view<const T>(v),
          data_or_null<lanes::accumulation_t<T>>(sink)};
}

kernels::DropoutRows dropout_rows(const AttentionDropout& dropout, const at::Tensor& q,
                                  const at::Tensor& k) {
  return {.sample_ordinals = dropout.queries.sample_ordinals.const_data_ptr<int64_t>(),
          .positions = dropout.queries.positions.const_data_ptr<int64_t>(),
          .samples = q.size(1),
          .position_count = q.size(0),
          .heads = q.size(2),
          .head_offset = dropout.head_offset,
          .columns = k.size(0),
          .seed = dropout.key.seed,
          .layer = dropout.key.layer,
          .site = dropout.key.site,
          .threshold = dropout_threshold(dropout.p),
          .scale = 1.0 / (1.0 - dropout.p)};
}

// Packed sequences are tasks of their own; a batch has one sequence per entry.
std::vector<kernels::AttentionSequence> attention_sequences(const AttentionMask& mask, int64_t sq,
                                                            int64_t sk, int64_t b) {
  std::vector<kernels::AttentionSequence> list;
  if (!mask.cu_seqlens_q.defined() || mask.query_positions.defined()) {
    for (int64_t i = 0; i < b; ++i) list.push_back({i, 0, sq, 0, sk});
    return list;
  }
  const auto queries = sequence_offsets(mask.cu_seqlens_q);
  const auto keys = mask.cu_seqlens_k.defined() ? sequence_offsets(mask.cu_seqlens_k) : queries;
  for (size_t i = 0; i + 1 < queries.size(); ++i) {
    list.push_back({0, queries[i], queries[i + 1] - queries[i], keys[i], keys[i + 1] - keys[i]});
  }
  return list;
}

// Calls body(shape) with the kernels' view of the call.
template <typename Body>
void with_shape(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const AttentionOptions& options, const Body& body) {
  const AttentionMask& mask = options.mask;
  const std::vector<KeyRange> visible = mask.visible_keys(q.size(0), k.size(0));
  kernels::FusedAttentionShape shape{
      .sequences = attention_sequences(mask, q.size(0), k.size(0), q.size(1)),
      .sq = q.size(0),
      .b = q.size(1),
      .n = q.size(2),
      .g = k.size(2),
      .d = q.size(3),
      .dv = v.size(3),
      .scale = options.scale,
      .soft_cap = options.soft_cap,
      .visible = visible.data(),
      .dropout = nullptr,
      .columns = data_or_null<const int64_t>(mask.key_positions)};
  if (options.dropout.p == 0) return body(shape);
  const kernels::DropoutRows rows = dropout_rows(options.dropout, q, k);
  shape.dropout = &rows;
  body(shape);
}

at::Tensor wide_sink(const AttentionOptions& options, const at::Tensor& q) {
  if (!options.softmax_offset.defined()) return {};
  return options.softmax_offset.to(accumulation_dtype(q.scalar_type())).contiguous();
}

}  // namespace

AttentionBlockOutput fused_attention_block(const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const AttentionOptions& options) {
  if (widens_for_products(q)) {
    AttentionBlockOutput wide =
        fused_attention_block(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), options);
    wide.out = wide.out.to(at::kHalf);
    return wide;
  }
  const at::Tensor query = with_contiguous_rows(q), key = with_contiguous_rows(k),
                   value = with_contiguous_rows(v), sink = wide_sink(options, q);
  AttentionBlockOutput result{
      .out = at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options()),
      .lse = at::empty({q.size(1), q.size(2), q.size(0)},
                       q.options().dtype(accumulation_dtype(q.scalar_type())))};
  dispatch_dtype(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_shape(query, key, value, options, [&](const kernels::FusedAttentionShape& shape) {
      with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
        kernels::fused_attention_forward<level, T>(
            shape, attention_inputs<T>(query, key, value, sink), head_view<T>(result.out),
            result.lse.mutable_data_ptr<lanes::accumulation_t<T>>());
      });
    });
  });
  return result;
}

AttentionBlockGradients fused_attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                       const at::Tensor& v, const at::Tensor& out,
                                                       const at::Tensor& lse,
                                                       const at::Tensor& grad_out,
                                                       const AttentionOptions& options) {
  if (widens_for_products(q)) {
    AttentionBlockGradients wide =
        fused_attention_block_backward(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat),
                                       out.to(at::kFloat), lse, grad_out.to(at::kFloat), options);
    for (at::Tensor* gradient : {&wide.q, &wide.k, &wide.v}) *gradient = gradient->to(at::kHalf);
    return wide;
  }
  const at::Tensor query = with_contiguous_rows(q), key = with_contiguous_rows(k),
                   value = with_contiguous_rows(v), sink = wide_sink(options, q),
                   grad = grad_out.contiguous();
  AttentionBlockGradients gradients{.q = at::empty(q.sizes(), q.options()),
                                    .k = at::empty(k.sizes(), k.options()),
                                    .v = at::empty(v.sizes(), v.options()),
                                    .softmax_offset = sink.defined() ? at::empty_like(sink) : sink,
                                    .bias = {}};
  dispatch_dtype(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_shape(query, key, value, options, [&](const kernels::FusedAttentionShape& shape) {
      with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
        kernels::fused_attention_backward<level, T>(
            shape, attention_inputs<T>(query, key, value, sink), head_view<const T>(out),
            head_view<const T>(grad), lse.const_data_ptr<A>(),
            {head_view<T>(gradients.q), head_view<T>(gradients.k), head_view<T>(gradients.v),
             data_or_null<A>(gradients.softmax_offset)});
      });
    });
  });
  if (sink.defined()) {
    gradients.softmax_offset = gradients.softmax_offset.to(options.softmax_offset.scalar_type());
  }
  return gradients;
}

}  // namespace megatron
