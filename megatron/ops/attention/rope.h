// Rotary position embedding applied to queries or keys (Su et al., "RoFormer", 2021; Megatron's
// apply_rotary_pos_emb).
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// t [s,b,n,d], any strides with a contiguous last dimension; cos and sin [s, rot_dim] or, where
// each sample has positions of its own, [s, b, rot_dim], rot_dim even and at most d, cast to t's
// dtype first as Megatron does. Returns [s,b,n,d], contiguous: on the first rot_dim of d, t * cos +
// rotate_half(t) * sin, the rest unchanged. rotate_half pairs element i with i + rot_dim / 2, or
// neighbours 2i and 2i + 1 where `interleaved`. cos and sin get no gradient.
at::Tensor apply_rotary(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                        bool interleaved);

namespace reference {
at::Tensor apply_rotary(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                        bool interleaved);
}  // namespace reference

}  // namespace megatron
