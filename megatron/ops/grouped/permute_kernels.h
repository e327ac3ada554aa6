// The kernels of permute and unpermute: plain pointers, T one of float, double, BFloat16. An index of
// -1 is a padding row.
#pragma once

#include <cstdint>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// The rows of each token: token_rows[token_offsets[t]] to token_rows[token_offsets[t + 1] - 1].
struct TokenRows {
  int64_t tokens;
  const int64_t* token_offsets;
  const int64_t* token_rows;
};

// to [rows, h]: row r is from[row_token[r]] (times weights[r], unless null), or 0.
template <KernelLevel level, typename T, typename A>
void gather_rows(int64_t rows, int64_t h, const int64_t* row_token, const T* from, const A* weights,
                 T* to);

// to [tokens, h]: the sum of each token's rows of `from` (times their weights, unless null).
template <KernelLevel level, typename T, typename A>
void sum_token_rows(const TokenRows& index, int64_t h, const T* from, const A* weights, T* to);

// to [rows]: the dot product of rows[r] and tokens[row_token[r]], or 0.
template <KernelLevel level, typename T, typename A>
void dot_rows(int64_t rows, int64_t h, const int64_t* row_token, const T* row_values,
              const T* token_values, A* to);

}  // namespace megatron::kernels
