// The dropout kernels' interface: plain pointers. CPU: T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/matmul/column_sum_kernels.h"

namespace megatron::kernels {

// Where a kernel's rows lie in the random function. Rows are [outer, inner] of `columns` elements:
// hidden states: outer = s_p positions, inner = b samples; attention: outer = b samples x n_p
// heads, inner = sq queries.
struct DropoutRows {
  const int64_t* sample_ordinals;  // [b]
  const int64_t* positions;        // [s_p] or [sq]
  int64_t samples;
  int64_t position_count;
  int64_t heads;  // 0: rows are [position, sample]; else [sample, head, position]
  int64_t head_offset;
  int64_t columns;
  uint64_t seed;
  int64_t layer;
  int32_t site;
  uint32_t threshold;
  double scale;  // 1 / (1 - p)

  int64_t row_count() const { return samples * position_count * (heads == 0 ? 1 : heads); }
};

// y = dropout(x) elementwise; y may be x. Also the backward of dropout.
template <typename T>
void dropout_rows(const DropoutRows& rows, const T* x, T* y);

// y = residual + dropout(x + bias); bias may be null. threshold 0 drops nothing and scale must
// be 1.
template <typename T>
void bias_dropout_add_forward(const DropoutRows& rows, const T* x, const T* bias, const T* residual,
                              T* y);

// grad_x = dropout(grad_y) and, unless null, the partial column sums of grad_x.
template <typename T, typename A>
void bias_dropout_add_backward(const DropoutRows& rows, const T* grad_y, T* grad_x, A* partials,
                               const RowBlocks& blocks);

}  // namespace megatron::kernels
