// Scaled dot-product attention of one rank's heads. q [sq,b,n,d], k and v [sk,b,g,d], n a multiple
// of g (grouped-query attention) -> [sq,b,n*d].
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/attention_options.h"

namespace megatron {

// Causal attention by libtorch's flash attention, which never stores the sq x sk scores; sq = sk,
// no dropout.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            double scale);

// Causal attention by cuDNN; CUDA tensors in half precision only.
at::Tensor cudnn_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           double scale);

// Attention that stores the scores (Megatron's DotProductAttention), with every option: softmax in
// accumulation_dtype, masked scores filled with -10000. A query that sees no key therefore attends
// to all keys equally.
at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const AttentionOptions& options);

namespace reference {
at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const AttentionOptions& options);
}  // namespace reference

}  // namespace megatron
