// Attention over a sequence that a context-parallel group shards: the queries of every rank see the
// keys of all ranks. Keys and values are communicated; queries stay on their rank.
#pragma once

#include <vector>

#include "megatron/context_parallel/zigzag.h"
#include "megatron/ops/attention/attention_block.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// Megatron's cp_comm_type p2p and all_gather.
enum class KeyExchange {
  p2p,         // in a ring, overlapped with computation (ring_attention.h)
  all_gather,  // all at once (all_gather_attention.h)
};

struct ContextParallelAttentionOptions {
  ProcessGroupPtr cp;
  SequenceSplit split;
  KeyExchange exchange = KeyExchange::p2p;
  // The rows of the mask and bias are this rank's queries, their columns all keys of the sequence
  // in order: [.., sq, length]. The dropout positions are this rank's. The mask's positions and
  // cu_seqlens follow from `split` and must be unset.
  AttentionOptions attention;
  bool unfused = false;  // as in attention_block
};

// This rank's q [s/cp,b,n,d], k [s/cp,b,g,d], v [s/cp,b,g,dv] -> [s/cp,b,n*dv]. Collective over
// the group, forward and backward. Throws Error for shapes that do not match the split.
at::Tensor context_parallel_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const ContextParallelAttentionOptions& options);

// For the key exchanges: the options and everything derived from them before keys arrive.
class ContextParallelAttentionCall {
 public:
  explicit ContextParallelAttentionCall(ContextParallelAttentionOptions options);

  const ProcessGroup& cp() const { return *options_.cp; }
  const ContextParallelAttentionOptions& options() const { return options_; }
  // The positions in the row of the tokens of `rank`.
  const at::Tensor& positions(int rank) const { return positions_[rank]; }
  // The options of attention_block for this rank's queries and the keys at `key_positions`. The
  // sink and the bias are the call's inputs; only one block of a query must include the sink.
  AttentionOptions block(const at::Tensor& key_positions, bool with_sink, const at::Tensor& sink,
                         const at::Tensor& bias) const;

 private:
  ContextParallelAttentionOptions options_;
  std::vector<at::Tensor> positions_;
};

// Inputs with a gradient. kv: keys and values concatenated, [s/cp, b, g, d + dv].
struct ContextParallelAttentionInputs {
  at::Tensor q, kv, softmax_offset, bias;
  at::Tensor k() const { return kv.narrow(3, 0, q.size(3)); }
  at::Tensor v() const { return kv.narrow(3, q.size(3), kv.size(3) - q.size(3)); }
  ContextParallelAttentionInputs with_kv(const at::Tensor& other_kv) const {
    return {q, other_kv, softmax_offset, bias};
  }
};

// q and kv in the accumulation dtype.
struct ContextParallelAttentionGradients {
  at::Tensor q, kv, softmax_offset, bias;
};

}  // namespace megatron
