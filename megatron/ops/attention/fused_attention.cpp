// Fused attention: checks, autograd and dispatch.
#include "megatron/ops/attention/fused_attention.h"

#include <cmath>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/attention/attention_shapes.h"
#include "megatron/ops/attention/fused_attention_in_full.h"
#include "megatron/ops/attention/fused_attention_views.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kFusedAttention = "fused_attention";

// What the node keeps besides tensors.
struct FusedAttentionPlan : torch::CustomClassHolder {
  FusedAttentionOptions options;
  std::vector<kernels::AttentionSequence> sequences;

  // Calls body(shape) with the shape that the kernels take.
  template <typename Body>
  void with_shape(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const Body& body) const {
    const AttentionWindow window = options.window.value_or(AttentionWindow{});
    kernels::FusedAttentionShape shape{.sequences = sequences,
                                       .sq = q.size(0),
                                       .b = q.size(1),
                                       .n = q.size(2),
                                       .g = k.size(2),
                                       .d = q.size(3),
                                       .dv = v.size(3),
                                       .scale = options.scale,
                                       .query_offset = options.query_offset,
                                       .left = window.left,
                                       .right = options.causal ? 0 : window.right,
                                       .dropout = nullptr};
    if (options.dropout.p == 0) return body(shape);
    const kernels::DropoutRows rows = dropout_rows(options.dropout, q, k);
    shape.dropout = &rows;
    body(shape);
  }
};

// Saves the output and the log-sum-exp; the probabilities and dropout's mask are made again in
// backward.
class FusedAttentionFunction : public torch::autograd::Function<FusedAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& maybe_sink,
                            const c10::intrusive_ptr<FusedAttentionPlan>& plan) {
    const at::Tensor sink = maybe_sink.value_or(at::Tensor());
    const int64_t sq = q.size(0), b = q.size(1), n = q.size(2), dv = v.size(3);
    at::Tensor out = at::empty({sq, b, n, dv}, q.options());
    at::Tensor lse = at::empty({b, n, sq}, q.options().dtype(accumulation_dtype(q.scalar_type())));
    dispatch_dtype(q.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      plan->with_shape(q, k, v, [&](const kernels::FusedAttentionShape& shape) {
        kernels::fused_attention_forward<T>(shape, attention_inputs<T>(q, k, v, sink),
                                            head_view<T>(out), lse.mutable_data_ptr<A>());
      });
    });
    const at::Tensor result = out.view({sq, b, n * dv});
    context->save_for_backward({q, k, v, sink, result, lse});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return result;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(5);
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &sink = saved[3], &lse = saved[5];
    const std::vector<int64_t> heads = {q.size(0), q.size(1), q.size(2), v.size(3)};
    const at::Tensor out = saved[4].view(heads);
    const at::Tensor grad_out = gradients[0].contiguous().view(heads);
    at::Tensor grad_q = at::empty(q.sizes(), q.options()),
               grad_k = at::empty(k.sizes(), k.options()),
               grad_v = at::empty(v.sizes(), v.options()), grad_sink;
    if (sink.defined()) grad_sink = at::empty(sink.sizes(), sink.options());
    const auto capsule = context->saved_data["plan"].toCapsule();
    dispatch_dtype(q.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      static_cast<const FusedAttentionPlan&>(*capsule).with_shape(
          q, k, v, [&](const kernels::FusedAttentionShape& shape) {
            kernels::fused_attention_backward<T>(
                shape, attention_inputs<T>(q, k, v, sink), head_view<const T>(out),
                head_view<const T>(grad_out), lse.const_data_ptr<A>(),
                {head_view<T>(grad_q), head_view<T>(grad_k), head_view<T>(grad_v),
                 data_or_null<A>(grad_sink)});
          });
    });
    return {grad_q, grad_k, grad_v, grad_sink, {}};
  }
};

// cu_seqlens as numbers, checked.
std::vector<int64_t> sequence_starts(const at::Tensor& starts, int64_t tokens,
                                     std::string_view name) {
  check(starts.dim() == 1 && starts.size(0) >= 2 && starts.is_cpu() &&
            (starts.scalar_type() == at::kInt || starts.scalar_type() == at::kLong),
        "{}: Expected {} of shape [sequences + 1], int32 or int64 on the CPU, but got [{}], {} on "
        "{}",
        kFusedAttention, name, fmt::join(starts.sizes(), ", "), c10::toString(starts.scalar_type()),
        starts.device().str());
  const at::Tensor numbers = starts.to(at::kLong).contiguous();
  const int64_t* from = numbers.const_data_ptr<int64_t>();
  const std::vector<int64_t> list(from, from + numbers.numel());
  check(list.front() == 0, "{}: Expected {} to start at 0, but got {}", kFusedAttention, name,
        list.front());
  for (size_t i = 1; i < list.size(); ++i) {
    check(list[i] > list[i - 1],
          "{}: Expected {} to increase, but got {} after {} at index {}; leave empty sequences out",
          kFusedAttention, name, list[i], list[i - 1], i);
  }
  check(list.back() == tokens, "{}: Expected {} to end at the number of tokens, {}, but got {}",
        kFusedAttention, name, tokens, list.back());
  return list;
}

std::vector<kernels::AttentionSequence> sequences_of(const at::Tensor& q, const at::Tensor& k,
                                                     const FusedAttentionOptions& options) {
  const int64_t sq = q.size(0), sk = k.size(0), b = q.size(1);
  std::vector<kernels::AttentionSequence> list;
  if (!options.cu_seqlens_q.defined()) {
    check(!options.cu_seqlens_k.defined(),
          "{}: Expected cu_seqlens_q with cu_seqlens_k, but got cu_seqlens_k alone",
          kFusedAttention);
    for (int64_t i = 0; i < b; ++i) list.push_back({i, 0, sq, 0, sk});
    return list;
  }
  check(b == 1, "{}: Expected packed sequences in a batch of 1, but got {}", kFusedAttention, b);
  check(options.query_offset == 0,
        "{}: Expected query_offset 0 with packed sequences, but got {}; cached keys need one "
        "sequence per batch entry",
        kFusedAttention, options.query_offset);
  const auto queries = sequence_starts(options.cu_seqlens_q, sq, "cu_seqlens_q");
  const auto keys =
      sequence_starts(options.cu_seqlens_k.defined() ? options.cu_seqlens_k : options.cu_seqlens_q,
                      sk, "cu_seqlens_k");
  check(queries.size() == keys.size(),
        "{}: Expected as many sequences in cu_seqlens_k as in cu_seqlens_q, {}, but got {}",
        kFusedAttention, queries.size() - 1, keys.size() - 1);
  for (size_t i = 0; i + 1 < queries.size(); ++i) {
    list.push_back({0, queries[i], queries[i + 1] - queries[i], keys[i], keys[i + 1] - keys[i]});
  }
  return list;
}

void check_options(const at::Tensor& q, const FusedAttentionOptions& options) {
  check(options.scale > 0 && std::isfinite(options.scale),
        "{}: Expected a finite scale above 0, but got {}", kFusedAttention, options.scale);
  check(options.query_offset >= 0, "{}: Expected query_offset of at least 0, but got {}",
        kFusedAttention, options.query_offset);
  check_softmax_offset(options.softmax_offset, q, kFusedAttention);
  const AttentionDropout& dropout = options.dropout;
  check(dropout.p >= 0 && dropout.p < 1,
        "{}: Expected a dropout probability of at least 0 and below 1, but got {}", kFusedAttention,
        dropout.p);
  if (dropout.p == 0) return;
  check(dropout.head_offset >= 0, "{}: Expected head_offset of at least 0, but got {}",
        kFusedAttention, dropout.head_offset);
  check_ordinals(dropout.queries.sample_ordinals, q.size(1), kFusedAttention, "sample_ordinals");
  check_ordinals(dropout.queries.positions, q.size(0), kFusedAttention, "positions");
}

}  // namespace

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const FusedAttentionOptions& options) {
  check_attention(q, k, v, kFusedAttention);
  check(q.size(3) > 0 && v.size(3) > 0,
        "{}: Expected head dimensions of at least 1, but got {} and {}", kFusedAttention, q.size(3),
        v.size(3));
  check_options(q, options);
  auto sequences = sequences_of(q, k, options);
  if (!use_cpu_kernel(q)) return fused_attention_in_full(q, k, v, options);
  auto plan = c10::make_intrusive<FusedAttentionPlan>();
  plan->options = options;
  plan->sequences = std::move(sequences);
  at::Tensor sink = options.softmax_offset;
  if (sink.defined()) sink = sink.to(accumulation_dtype(q.scalar_type())).contiguous();
  plan->options.softmax_offset.reset();
  return FusedAttentionFunction::apply(with_dense_rows(q), with_dense_rows(k), with_dense_rows(v),
                                       optional_tensor(sink), plan);
}

}  // namespace megatron
