// Small steps of decode on rows of fp32 activations: plain pointers. Out is float or BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// LayerNorm if `centred`, else RMSNorm, of x [h]; bias may be null. Without a weight y = x. y may be
// x.
template <KernelLevel level, typename Out>
void normalize_row(bool centred, int64_t h, const float* x, const float* weight, const float* bias,
                   float epsilon, Out* y);

// Rotates the first `rotated` features of x [d] in place: x cos + rotate_half(x) sin, with pairs
// (i, i + rotated / 2), or (2 i, 2 i + 1) if `interleaved`. cos and sin [rotated].
template <KernelLevel level>
void rotate_row(bool interleaved, int64_t rotated, const float* cos, const float* sin, float* x);

// y = scale * x, or y += scale * x if `add`. X is float, BFloat16 or Half.
template <KernelLevel level, typename X>
void scale_row(int64_t h, float scale, const X* x, bool add, float* y);

// Sums `count` floats: as fast as memory is read.
template <KernelLevel level>
float read_floats(const float* values, int64_t count);

}  // namespace megatron::kernels
