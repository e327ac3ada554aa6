// Which keys each query of attention sees. Every implementation derives it from here: kernels from
// visible_keys(), compositions of libtorch operators from materialize().
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/ops/attention/key_range.h"

namespace megatron {

// Megatron's window_size: a query at position p sees the keys p - left .. p + right; a negative
// bound means no bound.
struct AttentionWindow {
  int64_t left = -1, right = -1;
};

// A query sees a key if all the rules below allow it. Positions are those of the tokens in their
// sequence.
struct AttentionMask {
  bool causal = true;  // no keys after the query's own position
  std::optional<AttentionWindow> window;

  // Query i has position i + query_offset, key j has position j; query_offset is the number of keys
  // that were cached before the first query.
  int64_t query_offset = 0;

  // Instead, for blocks of a sequence: the positions of the queries [sq] and keys [sk]; int64,
  // contiguous, on the CPU, ascending. Both or neither.
  at::Tensor query_positions, key_positions;

  // Packed (THD) sequences, batch size 1: offsets at which each sequence starts, and the end of the
  // last, [sequences + 1], int32 or int64 on the CPU. A query sees its own sequence only. The
  // offsets of keys default to those of queries. With positions, both are offsets into the row of
  // tokens that the positions count, and only cu_seqlens_q is allowed.
  at::Tensor cu_seqlens_q, cu_seqlens_k;

  // Arbitrary mask as in Megatron: bool [1 or b, 1, sq, sk], true = masked.
  at::Tensor masked;

  // Throws Error where the mask does not fit q [sq, b, ...] and k [sk, b, ...].
  void validate(const at::Tensor& q, const at::Tensor& k, std::string_view operation) const;

  // For each of the sq queries the keys that every rule except `masked` allows. Within a sequence
  // neither bound decreases from one query to the next.
  std::vector<KeyRange> visible_keys(int64_t sq, int64_t sk) const;

  // All rules as one mask: bool [1 or b, 1, sq, sk] on `device`, true = masked.
  at::Tensor materialize(int64_t sq, int64_t sk, const at::Device& device) const;
};

// Offsets such as cu_seqlens_q as numbers.
std::vector<int64_t> sequence_offsets(const at::Tensor& cu_seqlens);

}  // namespace megatron
