// Attention of a row of tokens whose queries, keys and values are split over a context-parallel
// group: every rank's queries see the keys of all. The keys and values travel, the queries stay.
#pragma once

#include "megatron/context_parallel/zigzag.h"
#include "megatron/ops/attention/attention_block.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

enum class KeyTransport {
  ring,    // from rank to rank, while the ones before are computed with (ring_attention.h)
  gather,  // all at once (gathered_attention.h)
};

struct SplitAttention {
  ProcessGroupPtr cp;
  SequenceSplit split;
  KeyTransport transport = KeyTransport::ring;
  double scale = 1.0;
  bool causal = true;  // else the scores are held in full
  std::optional<AttentionWindow> window;
  at::Tensor softmax_offset;  // [n] or undefined
  AttentionDropout dropout;   // its positions are this rank's
  // As in AttentionBlock, but of this rank's queries and all keys of the row: [.., sq, length].
  bool in_full = false;
  at::Tensor mask, bias;
};

// q [s/cp,b,n,d], k [s/cp,b,g,d], v [s/cp,b,g,dv] of this rank -> [s/cp,b,n*dv]. Collective over
// the group, forward and backward. Throws Error for shapes that do not fit the split.
at::Tensor split_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const SplitAttention& options);

// For the transports: the call with all that is known before keys arrive.
class SplitAttentionCall {
 public:
  explicit SplitAttentionCall(SplitAttention options);

  const ProcessGroup& cp() const { return *options_.cp; }
  const SplitAttention& options() const { return options_; }
  // The places of the tokens that `rank` holds.
  const at::Tensor& positions(int rank) const { return positions_[rank]; }
  // The block of this rank's queries and the keys at `key_positions`. The sink goes `with_sink`.
  AttentionBlock block(const at::Tensor& key_positions, bool with_sink, const at::Tensor& sink,
                       const at::Tensor& bias) const;

 private:
  SplitAttention options_;
  std::vector<at::Tensor> positions_;
};

// What both transports take and give. kv: keys and values side by side, [s/cp, b, g, d + dv].
struct SplitAttentionInputs {
  at::Tensor q, kv, softmax_offset, bias;
  at::Tensor k() const { return kv.narrow(3, 0, q.size(3)); }
  at::Tensor v() const { return kv.narrow(3, q.size(3), kv.size(3) - q.size(3)); }
  SplitAttentionInputs with(const at::Tensor& other_kv) const {
    return {q, other_kv, softmax_offset, bias};
  }
};

// q and kv in the accumulation dtype.
struct SplitAttentionGradients {
  at::Tensor q, kv, softmax_offset, bias;
};

}  // namespace megatron
