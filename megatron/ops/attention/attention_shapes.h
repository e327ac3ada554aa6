// Layouts and checks that the attention operators share.
#pragma once

#include <cmath>
#include <string_view>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_options.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

// [s, b, n, d] -> [b * n, s, d]; a view where the heads are adjacent in memory.
inline at::Tensor heads_first(const at::Tensor& x) {
  return x.reshape({x.size(0), x.size(1) * x.size(2), x.size(3)}).transpose(0, 1);
}

// [b * n, s, d] -> [s, b, n * d].
inline at::Tensor heads_last(const at::Tensor& x, int64_t b) {
  return x.transpose(0, 1).reshape({x.size(1), b, x.size(0) / b * x.size(2)});
}

// Repeats key-value heads [s, b, g, d] for the n query heads.
inline at::Tensor expand_groups(const at::Tensor& x, int64_t n) {
  const int64_t g = x.size(2);
  if (g == n) return x;
  return x.unsqueeze(3)
      .expand({x.size(0), x.size(1), g, n / g, x.size(3)})
      .reshape({x.size(0), x.size(1), n, x.size(3)});
}

// Scores times their scale -> capped, if the options say so.
inline at::Tensor soft_capped(const at::Tensor& scores, double cap) {
  return cap == 0 ? scores : at::tanh(scores / cap) * cap;
}

inline void check_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            std::string_view operation) {
  check_floating(q, operation, "q");
  check_alike(k, q, operation, "k");
  check_alike(v, q, operation, "v");
  check(q.dim() == 4 && k.dim() == 4 && v.dim() == 4,
        "{}: Expected q [sq, b, n, d], k and v [sk, b, g, d], but got {}, {} and {} dimensions",
        operation, q.dim(), k.dim(), v.dim());
  check(k.size(1) == q.size(1) && k.size(3) == q.size(3) &&
            v.sizes().slice(0, 3) == k.sizes().slice(0, 3),
        "{}: Expected q [sq, b, n, d], k and v [sk, b, g, d] that agree, but got [{}], [{}] and "
        "[{}]",
        operation, fmt::join(q.sizes(), ", "), fmt::join(k.sizes(), ", "),
        fmt::join(v.sizes(), ", "));
  check(k.size(2) > 0 && q.size(2) % k.size(2) == 0,
        "{}: Expected query heads that are a multiple of the key-value heads, but got {} and {}",
        operation, q.size(2), k.size(2));
}

inline void check_softmax_offset(const at::Tensor& sink, const at::Tensor& q,
                                 std::string_view operation) {
  if (!sink.defined()) return;
  check_floating(sink, operation, "softmax_offset");
  check_alike(sink, q, operation, "softmax_offset", /*dtype=*/false);
  check_shape(sink, {q.size(2)}, operation, "softmax_offset");
}

inline void check_bias(const at::Tensor& bias, const at::Tensor& q, const at::Tensor& k,
                       std::string_view operation) {
  if (!bias.defined()) return;
  check_floating(bias, operation, "bias");
  check(bias.dim() == 4 && (bias.size(0) == 1 || bias.size(0) == q.size(1)) &&
            (bias.size(1) == 1 || bias.size(1) == q.size(2)) && bias.size(2) == q.size(0) &&
            bias.size(3) == k.size(0),
        "{}: Expected a bias of shape [1 or {}, 1 or {}, {}, {}], but got [{}]", operation,
        q.size(1), q.size(2), q.size(0), k.size(0), fmt::join(bias.sizes(), ", "));
}

inline void check_dropout(const AttentionDropout& dropout, const at::Tensor& q,
                          std::string_view operation) {
  check(dropout.p >= 0 && dropout.p < 1,
        "{}: Expected a dropout probability of at least 0 and below 1, but got {}", operation,
        dropout.p);
  if (dropout.p == 0) return;
  check(dropout.head_offset >= 0, "{}: Expected head_offset of at least 0, but got {}", operation,
        dropout.head_offset);
  check_ordinals(dropout.queries.sample_ordinals, q.size(1), operation, "sample_ordinals");
  check_ordinals(dropout.queries.positions, q.size(0), operation, "positions");
}

// Checks q, k and v together with the options.
inline void check_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionOptions& options, std::string_view operation) {
  check_attention(q, k, v, operation);
  options.mask.validate(q, k, operation);
  check(options.soft_cap >= 0 && std::isfinite(options.soft_cap),
        "{}: Expected a finite soft cap of at least 0, but got {}", operation, options.soft_cap);
  check(options.soft_cap == 0 || options.softmax_coefficient == 1,
        "{}: Expected a softmax coefficient of 1 with a soft cap, but got {}", operation,
        options.softmax_coefficient);
  check_bias(options.bias, q, k, operation);
  check_softmax_offset(options.softmax_offset, q, operation);
  check_dropout(options.dropout, q, operation);
}

inline void check_no_positions(const AttentionMask& mask, std::string_view operation) {
  check(!mask.query_positions.defined(),
        "{}: Expected no query_positions, but got some; attention_block accepts them", operation);
}

}  // namespace megatron
