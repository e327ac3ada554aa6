// The masked softmax of attention scores: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/core/accumulation_type.h"

namespace megatron::kernels {

// Scores [b, n, sq, sk], contiguous. Query i stands at position i + query_offset and sees the keys
// from position - left to position + right; a negative bound is none. masked (bytes, 1 = masked)
// has strides in elements; null: none.
struct SoftmaxShape {
  int64_t b, n, sq, sk;
  int64_t query_offset, left, right;
  const bool* masked;
  int64_t mask_stride_b, mask_stride_q;  // the last dimension is contiguous
};

// In place: scores <- softmax over sk with hidden scores set to -10000. sink [n] or null: one more
// logit per row, whose probability goes to sink_probs [b, n, sq].
template <typename T>
void masked_softmax(const SoftmaxShape& shape, T* scores, const lanes::accumulation_t<T>* sink,
                    lanes::accumulation_t<T>* sink_probs);

// In place: grad <- the gradient of the scores, given that of the probabilities; 0 where hidden.
// sink_probs, unless null, <- the gradient of each row's sink.
template <typename T>
void masked_softmax_backward(const SoftmaxShape& shape, const T* probs, T* grad,
                             lanes::accumulation_t<T>* sink_probs);

}  // namespace megatron::kernels
