// Context-parallel attention with cp_comm_type a2a (Jacobs et al., "DeepSpeed Ulysses", 2023): an
// all-to-all turns a shard of the sequence with all heads into the full sequence with a shard of
// the heads, and another one turns the output back. In between, attention is that of one rank.
#pragma once

#include <functional>

#include "megatron/context_parallel/zigzag.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// Attention over the full sequence: q [s,b,n/cp,d], k [s,b,m,d], v [s,b,m,dv] -> [s,b,n/cp*dv].
using FullSequenceAttention =
    std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;

// This rank's q [s/cp,b,n,d], k [s/cp,b,g,d], v [s/cp,b,g,dv] -> [s/cp,b,n*dv]. `attend` receives
// this rank's heads, with the tokens in sequence order. cp must divide n, and either divide g or be
// a multiple of it; in the latter case cp / g ranks share a key-value head. Collective over the
// group, forward and backward. Throws Error for other numbers of heads.
at::Tensor all_to_all_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const SequenceSplit& split, const ProcessGroupPtr& cp,
                                const FullSequenceAttention& attend);

}  // namespace megatron
