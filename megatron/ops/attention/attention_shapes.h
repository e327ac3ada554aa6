// Shapes and checks that the attention operators share.
#pragma once

#include <string_view>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

// [s,b,n,d] as [b*n, s, d]; a view where the heads lie side by side.
inline at::Tensor heads_first(const at::Tensor& x) {
  return x.reshape({x.size(0), x.size(1) * x.size(2), x.size(3)}).transpose(0, 1);
}

// [b*n, s, d] -> [s, b, n * d].
inline at::Tensor heads_last(const at::Tensor& x, int64_t b) {
  return x.transpose(0, 1).reshape({x.size(1), b, x.size(0) / b * x.size(2)});
}

// The key-value heads [s,b,g,d] repeated for the n query heads.
inline at::Tensor expand_groups(const at::Tensor& x, int64_t n) {
  const int64_t g = x.size(2);
  if (g == n) return x;
  return x.unsqueeze(3)
      .expand({x.size(0), x.size(1), g, n / g, x.size(3)})
      .reshape({x.size(0), x.size(1), n, x.size(3)});
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

}  // namespace megatron
