// The interface of the dropout kernels: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/matmul/column_sum_kernels.h"

namespace megatron::kernels {

// Maps a kernel's rows, of `columns` elements each, to the random function. Rows of hidden states
// are ordered [position, sample], rows of attention probabilities [sample, head, position].
struct DropoutRows {
  const int64_t* sample_ordinals;  // [b]
  const int64_t* positions;        // [s_p] or [sq]
  int64_t samples;
  int64_t position_count;
  int64_t heads;  // 0: hidden states
  int64_t head_offset;
  int64_t columns;
  uint64_t seed;
  int64_t layer;
  int32_t site;
  uint32_t threshold;
  double scale;  // 1 / (1 - p)

  int64_t row_count() const { return samples * position_count * (heads == 0 ? 1 : heads); }
};

// y = dropout(x); y may be x. Also computes the gradient of dropout.
template <KernelLevel level, typename T>
void dropout_rows(const DropoutRows& rows, const T* x, T* y);

// y = residual + dropout(x + bias); bias may be null. With threshold 0, scale must be 1.
template <KernelLevel level, typename T>
void bias_dropout_add_forward(const DropoutRows& rows, const T* x, const T* bias, const T* residual,
                              T* y);

// grad_x = dropout(grad_y); `partials`, unless null, receives the partial column sums of grad_x.
template <KernelLevel level, typename T, typename A>
void bias_dropout_add_backward(const DropoutRows& rows, const T* grad_y, T* grad_x, A* partials,
                               const RowBlocks& blocks);

}  // namespace megatron::kernels
