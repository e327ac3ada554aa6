// Tensors as the fused attention's kernels take them.
#pragma once

#include <type_traits>

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/attention.h"
#include "megatron/ops/attention/fused_attention_kernels.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/random/dropout_mask.h"

namespace megatron {

// The kernels walk along the last dimension; other strides are theirs to follow.
inline at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.stride(3) == 1 || x.size(3) == 1 ? x : x.contiguous();
}

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

inline kernels::DropoutRows dropout_rows(const AttentionDropout& dropout, const at::Tensor& q,
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

}  // namespace megatron
