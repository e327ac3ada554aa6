// The interface of the rotary embedding kernel: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

struct RotaryShape {
  int64_t s, b, n, d;
  // Strides of the input in elements; its last dimension is contiguous.
  int64_t stride_s, stride_b, stride_n;
  int64_t rotary;         // the number of rotated elements of d
  bool table_per_sample;  // cosines and sines are [s, b, rotary]
  bool interleaved;
  bool backward;  // applies the transposed rotation
};

// out [s,b,n,d] contiguous; cosines and sines [s, rotary] or [s, b, rotary] contiguous.
template <KernelLevel level, typename T>
void rotate(const RotaryShape& shape, const T* in, const T* cosines, const T* sines, T* out);

}  // namespace megatron::kernels
