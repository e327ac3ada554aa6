// Rotary position embedding applied to queries or keys (Su et al., "RoFormer", 2021; Megatron's
// apply_rotary_pos_emb).
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// t [s,b,n,d], any strides; cos and sin [s, rot_dim] or, for positions per sample, [s, b, rot_dim].
// rot_dim is even and at most d. Returns a contiguous [s,b,n,d]: t * cos + rotate_half(t) * sin on
// the first rot_dim elements of d, the rest unchanged. rotate_half pairs element i with
// i + rot_dim / 2, or if `interleaved`, 2i with 2i + 1. As in Megatron, cos and sin are first cast
// to t's dtype; they get no gradient.
at::Tensor apply_rotary(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                        bool interleaved);

// Composed of libtorch operators, for dtypes and devices without a kernel.
namespace unfused {
at::Tensor apply_rotary(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                        bool interleaved);
}  // namespace unfused

}  // namespace megatron
