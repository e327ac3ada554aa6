// The activation kernels' interface: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>

#include "megatron/ops/column_sum.h"

namespace megatron::kernels {

enum class Activation { gelu, gelu_tanh, squared_relu, silu };

// y [rows, f] = activation(x + bias); gated: x [rows, 2f], y = activation(gate) * up. bias may be
// null.
template <typename T>
void activation_forward(Activation activation, bool gated, const T* x, const T* bias, T* y,
                        int64_t rows, int64_t f);

// grad_x like x, and the partial column sums of grad_x ([blocks.count, width of x]) unless null.
template <typename T, typename A>
void activation_backward(Activation activation, bool gated, const T* grad_y, const T* x,
                         const T* bias, T* grad_x, A* partials, const RowBlocks& blocks, int64_t f);

}  // namespace megatron::kernels
