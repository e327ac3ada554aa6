// The masked softmax of attention scores: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

namespace megatron::kernels {

// Scores [b, n, sq, sk], contiguous. masked (bytes, 1 = masked) has strides in elements; null:
// none.
struct SoftmaxShape {
  int64_t b, n, sq, sk;
  bool causal;
  int64_t query_offset;
  const bool* masked;
  int64_t mask_stride_b, mask_stride_q;  // the last dimension is contiguous
};

// In place: scores <- softmax over sk with masked scores set to -10000.
template <typename T>
void masked_softmax(const SoftmaxShape& shape, T* scores);

// In place: grad <- the gradient of the scores, given that of the probabilities; 0 where masked.
template <typename T>
void masked_softmax_backward(const SoftmaxShape& shape, const T* probs, T* grad);

}  // namespace megatron::kernels
