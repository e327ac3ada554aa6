// Weights as small integers with a scale, and perhaps a zero point, per group of a row: post-training
// quantization to INT8 and INT4 (torchao's rules).
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// How a group's scale follows from its values, for codes [lo, hi].
enum class IntMapping {
  symmetric,              // amax / ((hi - lo) / 2); the largest value of one sign may be clipped
  symmetric_no_clipping,  // max(min / lo, max / hi)
  asymmetric,             // (max - min) / (hi - lo) over a range that includes 0, and a zero point
  // The symmetric scale, shrunk to the one of 32 steps down to half whose squared error is least.
  least_squares,
};

struct IntGroupOptions {
  int64_t lo = -127, hi = 127;  // codes; at most 256 of them
  int64_t group_size = 0;       // values along a row; 0: the row
  IntMapping mapping = IntMapping::symmetric;
};

// weight[i, j] = (codes[i, j] - zero_points[i, g]) * scales[i, g], with g the group of j.
struct IntGroups {
  at::Tensor codes;        // [n, k] int16
  at::Tensor scales;       // [n, groups] fp32
  at::Tensor zero_points;  // [n, groups] int32; zeros with a symmetric mapping
};

// weight [n, k] of a floating dtype; k is a multiple of the group size. codes = clamp(round_half_even(
// weight * (1 / scale)) + zero_point). Throws Error for other shapes and for values that are not
// finite.
IntGroups quantize_int_groups(const at::Tensor& weight, const IntGroupOptions& options);

// [n, k] fp32.
at::Tensor dequantize_int_groups(const IntGroups& groups);

}  // namespace megatron
