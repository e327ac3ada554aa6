// Attention of some queries of a row of tokens over some of its keys, whose places in the row are
// given. What several blocks of keys give the same queries is merged by the log-sum-exp, so that
// the keys of a long row need never be in one place (Liu et al., "Ring Attention", 2023). Without
// autograd: the callers know in which order blocks come and go.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/attention.h"

namespace megatron {

struct AttentionBlock {
  double scale = 1.0;
  // Places in the row, int64 on the CPU, ascending: [sq] and [sk]. The columns of dropout's mask
  // are the keys' places.
  at::Tensor query_positions, key_positions;
  bool causal = true;  // a query sees the keys up to its own place; in_full without
  std::optional<AttentionWindow> window;  // narrows that
  // Packed sequences: where in the row each starts and the last ends, int64 on the CPU. A query
  // sees its own sequence alone. Undefined: one sequence.
  at::Tensor cu_seqlens;
  at::Tensor
      softmax_offset;        // [n], a sink's logits as in core_attention: in one of the blocks only
  AttentionDropout dropout;  // of the queries
  // Holds the scores in full and fills hidden ones with -10000, as core_attention; then there may
  // be a mask, bool [1 or b, 1, sq, sk], true = masked, and a bias [1 or b, 1 or n, sq, sk].
  bool in_full = false;
  at::Tensor mask, bias;
};

// lse: log2 of the sum of 2^(score * log2 e), -infinity in rows that see nothing; in the
// accumulation dtype, or fp64 with scores in full.
struct AttentionBlockOutput {
  at::Tensor out;  // [sq, b, n, dv]
  at::Tensor lse;  // [b, n, sq]
};

// q [sq,b,n,d], k [sk,b,g,d], v [sk,b,g,dv]; `out` in their dtype. Off the CPU, and in fp16, the
// scores are held in full whatever the block says.
AttentionBlockOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionBlock& block);

// The output over the keys of both; in the accumulation dtype.
AttentionBlockOutput merged(const AttentionBlockOutput& one, const AttentionBlockOutput& other);

struct AttentionBlockGradients {
  at::Tensor q, k, v;               // like these, in their dtype
  at::Tensor softmax_offset, bias;  // undefined where the block has none
};

// What this block adds to the gradients, `out` [sq,b,n,dv] in the inputs' dtype and `lse` being
// those of all blocks together.
AttentionBlockGradients attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& out,
                                                 const at::Tensor& lse, const at::Tensor& grad_out,
                                                 const AttentionBlock& block);

}  // namespace megatron
