// The interface of the fused attention kernels: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>
#include <vector>

#include "megatron/ops/attention/key_range.h"
#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/random/dropout_kernels.h"

namespace megatron::kernels {

// The rows of q and k that hold one sequence, in batch entry `batch`.
struct AttentionSequence {
  int64_t batch;
  int64_t first_query, queries;
  int64_t first_key, keys;
};

struct FusedAttentionShape {
  std::vector<AttentionSequence> sequences;
  int64_t sq, b;  // of the tensors
  int64_t n, g, d, dv;
  double scale;
  double soft_cap;  // 0: none
  // [sq]: the keys that each query sees, all of its own sequence. Within a sequence neither bound
  // decreases from one query to the next.
  const KeyRange* visible;
  const DropoutRows* dropout;  // or null
  // [sk]: the column of the dropout mask of each row of k, ascending; null: the row's number.
  const int64_t* columns;
};

// A tensor [tokens, b, heads, width] with strides in elements; the last dimension is contiguous.
template <typename T>
struct HeadView {
  T* data;
  int64_t token, batch, head;

  T* at(int64_t t, int64_t b, int64_t h) const { return data + t * token + b * batch + h * head; }
};

template <typename T>
struct AttentionInputs {
  HeadView<const T> q, k, v;
  const lanes::accumulation_t<T>* sink;  // [n] or null
};

// out [sq, b, n, dv]. lse [b, n, sq]: log2 of the sum of 2^(score * log2 e), including the sink;
// -infinity in rows that see no key.
template <KernelLevel level, typename T>
void fused_attention_forward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                             HeadView<T> out, lanes::accumulation_t<T>* lse);

template <typename T>
struct AttentionGradients {
  HeadView<T> q, k, v;
  lanes::accumulation_t<T>* sink;  // [n] or null
};

// Writes the gradients of every token that belongs to a sequence.
template <KernelLevel level, typename T>
void fused_attention_backward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                              HeadView<const T> out, HeadView<const T> grad_out,
                              const lanes::accumulation_t<T>* lse,
                              const AttentionGradients<T>& gradients);

}  // namespace megatron::kernels
