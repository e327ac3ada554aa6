// Attention in one pass over blocks of keys (FlashAttention-2), forward and backward, without ever
// holding sq x sk scores: grouped queries, causal and sliding-window rules, cached keys, packed
// sequences, attention sinks and dropout. Padding and other arbitrary masks: core_attention.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/attention.h"

namespace megatron {

struct FusedAttentionOptions {
  double scale = 1.0;  // of the products q k, above 0
  // Query i of a sequence stands at position i + query_offset and sees the sequence's keys 0 ..
  // position.
  bool causal = true;
  int64_t query_offset = 0;               // keys cached before the first query; 0 where packed
  std::optional<AttentionWindow> window;  // narrows the rule above
  // Packed (THD) sequences: where each starts and the last ends, [sequences + 1], int32 or int64 on
  // the CPU, from 0 up to sq and to sk. b is 1 then, and the cost that of the sequences alone.
  // cu_seqlens_k may be left out where it is the same.
  at::Tensor cu_seqlens_q, cu_seqlens_k;
  // [n_p]: the logit of a sink per head, one more term in the softmax's denominator; learnable, or
  // zeros for "off by one". Undefined: none.
  at::Tensor softmax_offset;
  AttentionDropout dropout;  // p 0: none; columns are the rows of k. The masks of core_attention.
};

// q [sq,b,n_p,d], k [sk,b,g_p,d], v [sk,b,g_p,dv], n_p a multiple of g_p, by any strides ->
// [sq,b,n_p*dv]. A query that sees no key gives zeros. bf16 is summed in fp32. The same bits for
// any number of threads, and for a sequence packed or alone. CPU kernels for fp32, bf16 and fp64;
// fp16 and other devices hold the scores in full.
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const FusedAttentionOptions& options);

namespace reference {
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const FusedAttentionOptions& options);
}  // namespace reference

}  // namespace megatron
