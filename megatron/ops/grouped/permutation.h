// From the router's choice to rows sorted by expert: which row holds which token. Data only; permute.h
// moves the tokens.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// Which copies are dropped if an expert is chosen by more tokens than its capacity.
enum class DropPolicy {
  position,     // the last tokens
  probability,  // the tokens of the lowest probability; of equal ones, the last tokens
};

struct PermutationOptions {
  int64_t capacity = 0;          // most rows of an expert; 0: no limit
  bool pad_to_capacity = false;  // every expert gets exactly `capacity` rows
  int64_t row_multiple = 1;      // the number of each expert's rows is padded to a multiple
  DropPolicy drop_policy = DropPolicy::position;
};

// Rows sorted by expert, then by token; the padding rows of an expert come after its other rows. All
// tensors are contiguous int64 on the CPU.
struct ExpertPermutation {
  int64_t tokens = 0, experts = 0;
  int64_t choices = 0;       // width of the router's tensors: e of a map, k of indices
  at::Tensor counts;         // [e] rows of each expert, with padding
  at::Tensor row_token;      // [rows] the token in each row, or -1: padding
  at::Tensor row_choice;     // [rows] its place in the router's [tokens, choices], flat, or -1
  at::Tensor token_offsets;  // [tokens + 1] where a token's rows begin in token_rows
  at::Tensor token_rows;     // the rows of each token, ascending
  int64_t dropped = 0;       // copies that exceeded the capacity

  int64_t rows() const { return row_token.size(0); }
};

// routing_map [tokens, e] of bool. `probs` [tokens, e] is read for DropPolicy::probability only, and
// may be undefined otherwise.
ExpertPermutation permutation_from_map(const at::Tensor& routing_map,
                                       const PermutationOptions& options = {},
                                       const at::Tensor& probs = {});

// indices [tokens, k] of int64: experts from 0 to `experts` - 1, or -1 for no expert (a padding token,
// or a dropped copy). No token may name an expert twice. `probs` [tokens, k] as above.
ExpertPermutation permutation_from_indices(const at::Tensor& indices, int64_t experts,
                                           const PermutationOptions& options = {},
                                           const at::Tensor& probs = {});

}  // namespace megatron
