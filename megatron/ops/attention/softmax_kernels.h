// The masked softmax of attention scores: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/attention/key_range.h"
#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron {

inline constexpr double kMaskedScore = -10000.0;  // Megatron's fill value

}  // namespace megatron

namespace megatron::kernels {

// Scores [b, n, sq, sk], contiguous.
struct SoftmaxShape {
  int64_t b, n, sq, sk;
  const KeyRange* visible;  // [sq]: the keys that each query sees unless `masked` says otherwise
  // [b, 1, sq, sk], true = masked, or null. Strides are in elements; the last dimension is
  // contiguous.
  const bool* masked;
  int64_t mask_stride_b, mask_stride_q;
};

// In place: scores <- softmax over sk, with masked scores set to kMaskedScore. sink [n], or null:
// one more logit per row, whose probability is written to sink_probs [b, n, sq].
template <KernelLevel level, typename T>
void masked_softmax(const SoftmaxShape& shape, T* scores, const lanes::accumulation_t<T>* sink,
                    lanes::accumulation_t<T>* sink_probs);

// In place: grad, the gradient of the probabilities, becomes that of the scores, 0 where masked.
// sink_probs, unless null, becomes the gradient of each row's sink.
template <KernelLevel level, typename T>
void masked_softmax_backward(const SoftmaxShape& shape, const T* probs, T* grad,
                             lanes::accumulation_t<T>* sink_probs);

}  // namespace megatron::kernels
