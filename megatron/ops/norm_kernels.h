// The normalisation kernels' interface: plain pointers, T one of float, double, BFloat16, A its
// accumulation type. weight and bias are given in A.
#pragma once

#include <cstdint>

#include "megatron/ops/matmul/column_sum.h"

namespace megatron::kernels {

// centred: LayerNorm, else RMSNorm (mean and bias are not used). mean and inverse_deviation:
// [rows].
template <typename T, typename A>
void norm_forward(bool centred, const T* x, const A* weight, const A* bias, A eps, T* y, A* mean,
                  A* inverse_deviation, int64_t rows, int64_t h);

// grad_x [rows, h] and the partial sums [blocks.count, h] of the gradients of weight and bias;
// bias_partials is null for RMSNorm.
template <typename T, typename A>
void norm_backward(bool centred, const T* grad_y, const T* x, const A* weight, const A* mean,
                   const A* inverse_deviation, T* grad_x, A* weight_partials, A* bias_partials,
                   const RowBlocks& blocks, int64_t h);

}  // namespace megatron::kernels
