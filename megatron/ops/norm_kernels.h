// The normalisation kernels' interface: plain pointers, T one of float, double, BFloat16, A its
// accumulation type, in which weight and bias are given.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/matmul/column_sum_kernels.h"

namespace megatron::kernels {

// LayerNorm if `centred`, else RMSNorm, which does not use mean and bias. Writes mean and rstd
// (1 / sqrt(variance + eps), or of the mean square) [rows] for backward.
template <KernelLevel level, typename T, typename A>
void norm_forward(bool centred, const T* x, const A* weight, const A* bias, A eps, T* y, A* mean,
                  A* rstd, int64_t rows, int64_t h);

// norm_forward's y again, from the mean and rstd that it wrote.
template <KernelLevel level, typename T, typename A>
void norm_apply(bool centred, const T* x, const A* weight, const A* bias, const A* mean,
                const A* rstd, T* y, int64_t rows, int64_t h);

// Writes grad_x [rows, h] and the partial sums [blocks.count, h] of the gradients of weight and
// bias; bias_partials is null for RMSNorm. If y is not null, it receives norm_forward's y again; it
// may be grad_y itself. Only then is `bias` read.
template <KernelLevel level, typename T, typename A>
void norm_backward(bool centred, const T* grad_y, const T* x, const A* weight, const A* bias,
                   const A* mean, const A* rstd, T* grad_x, T* y, A* weight_partials,
                   A* bias_partials, const RowBlocks& blocks, int64_t h);

}  // namespace megatron::kernels
