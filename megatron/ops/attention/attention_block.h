// Attention of some queries of a sequence over a block of its keys. The outputs of several blocks
// of keys for the same queries are merged by their log-sum-exp, so that the keys of a long sequence
// need never be on one rank (Liu et al., "Ring Attention", 2023). Without autograd: callers decide
// the order in which blocks arrive.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/attention_options.h"

namespace megatron {

// lse: log2 of the sum of 2^(score * log2 e), -infinity in rows that see no key; in the
// accumulation dtype, or fp64 when unfused.
struct AttentionBlockOutput {
  at::Tensor out;  // [sq, b, n, dv]
  at::Tensor lse;  // [b, n, sq]
};

// q [sq,b,n,d], k [sk,b,g,d], v [sk,b,g,dv], none empty; `out` has their dtype. The options' mask
// gives the positions of the block's queries and keys; the softmax offset belongs to one block
// only.
//
// In a fused block, a query that sees no key gives zeros and does not affect a merge. Unfused
// blocks store the scores and fill masked ones with -10000, as core_attention does; only they
// accept a masked tensor and a bias. Without a CPU kernel (other devices) every block is unfused.
// On a CPU fp16 is widened to fp32 and computed there.
AttentionBlockOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionOptions& options, bool unfused);

// The output over the keys of both blocks, in the accumulation dtype.
AttentionBlockOutput merge_attention(const AttentionBlockOutput& one,
                                     const AttentionBlockOutput& other);

struct AttentionBlockGradients {
  at::Tensor q, k, v;               // shapes and dtype of the inputs
  at::Tensor softmax_offset, bias;  // undefined if the options have none
};

// The block's contribution to the gradients. `out` [sq,b,n,dv], in the inputs' dtype, and `lse` are
// those of all blocks merged.
AttentionBlockGradients attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& out,
                                                 const at::Tensor& lse, const at::Tensor& grad_out,
                                                 const AttentionOptions& options, bool unfused);

}  // namespace megatron
