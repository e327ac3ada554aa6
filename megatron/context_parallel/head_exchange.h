// Heads against sequence (Jacobs et al., "DeepSpeed Ulysses", 2023): from some tokens of all heads
// to all tokens of some heads, and back. In between attention is that of one rank.
#pragma once

#include <functional>

#include "megatron/context_parallel/zigzag.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// Attention over whole rows: q [s,b,n/cp,d], k [s,b,m,d], v [s,b,m,dv] -> [s,b,n/cp*dv].
using WholeAttention =
    std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;

// q [s/cp,b,n,d], k [s/cp,b,g,d], v [s/cp,b,g,dv] of this rank -> [s/cp,b,n*dv], where `attend` is
// given the rank's part of the heads, the tokens in the row's order. n must be divisible by cp, and
// g too or else divide cp: then as many ranks share a key-value head. Collective over the group,
// forward and backward. Throws Error otherwise.
at::Tensor exchange_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const SequenceSplit& split, const ProcessGroupPtr& cp,
                          const WholeAttention& attend);

}  // namespace megatron
