// The fused attention kernels' interface: plain pointers. CPU: T one of float, double, BFloat16.
#pragma once

#include <cstdint>
#include <vector>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/random/dropout_kernels.h"

namespace megatron::kernels {

// Where the tokens of one sequence lie: rows first_query .. of batch column `batch`.
struct AttentionSequence {
  int64_t batch;
  int64_t first_query, queries;
  int64_t first_key, keys;
};

// The keys first .. last - 1.
struct KeyRange {
  int64_t first, last;
};

struct FusedAttentionShape {
  std::vector<AttentionSequence> sequences;
  int64_t sq, b;  // of the tensors
  int64_t n, g, d, dv;
  double scale;
  // The query i of a sequence stands at position i + query_offset and sees the keys from position -
  // left to position + right; a negative bound is none.
  int64_t query_offset, left, right;
  const DropoutRows* dropout;  // null: none
  // In place of that rule, unless null: the keys that each row of q sees, [sq], counted within its
  // sequence. Neither bound falls from one row of a sequence to the next.
  const KeyRange* visible = nullptr;
  // [sk]: the columns of dropout's mask that the rows of k stand for, ascending; null: the rows.
  const int64_t* columns = nullptr;
};

// [tokens, b, heads, width] by its strides in elements; the last dimension is contiguous.
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

// out: [sq, b, n, dv]. lse [b, n, sq]: log2 of the sum of 2^(score * log2 e), the sink included;
// -infinity in rows that see nothing.
template <typename T>
void fused_attention_forward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                             HeadView<T> out, lanes::accumulation_t<T>* lse);

template <typename T>
struct AttentionGradients {
  HeadView<T> q, k, v;
  lanes::accumulation_t<T>* sink;  // [n] or null
};

// Writes every element of the gradients whose token belongs to a sequence.
template <typename T>
void fused_attention_backward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                              HeadView<const T> out, HeadView<const T> grad_out,
                              const lanes::accumulation_t<T>* lse,
                              const AttentionGradients<T>& gradients);

}  // namespace megatron::kernels
