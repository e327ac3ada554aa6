// Fused attention (FlashAttention-2), forward and backward: one pass over blocks of keys, without
// storing the sq x sk scores. Supports grouped-query attention, causal and sliding-window masks,
// cached keys, packed sequences, attention sinks, soft-capped scores and dropout. core_attention also supports
// arbitrary masks and biases.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/attention_options.h"

namespace megatron {

// q [sq,b,n_p,d], k [sk,b,g_p,d], v [sk,b,g_p,dv], n_p a multiple of g_p, any strides ->
// [sq,b,n_p*dv]. options.scale must be positive; there must be no masked tensor and no bias. A
// query that sees no key gives zeros. bf16 accumulates in fp32. The result is bit-identical for any
// number of threads, and for a sequence packed or alone. Packed sequences cost as much as separate
// ones. CPU kernels exist for fp32, bf16 and fp64; fp16 is widened to fp32, and other devices run
// unfused_attention.
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionOptions& options);

namespace reference {
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionOptions& options);
}  // namespace reference

}  // namespace megatron
