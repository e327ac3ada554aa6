// Fused attention without autograd: from tensors to the CPU kernels. fused_attention and
// attention_block, which check their arguments, are built on it.
#pragma once

#include "megatron/ops/attention/attention_block.h"

namespace megatron {

// The kernels require a contiguous last dimension and follow all other strides.
inline at::Tensor with_contiguous_rows(const at::Tensor& x) {
  return x.stride(3) == 1 || x.size(3) == 1 ? x : x.contiguous();
}

AttentionBlockOutput fused_attention_block(const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const AttentionOptions& options);

AttentionBlockGradients fused_attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                       const at::Tensor& v, const at::Tensor& out,
                                                       const at::Tensor& lse,
                                                       const at::Tensor& grad_out,
                                                       const AttentionOptions& options);

}  // namespace megatron
