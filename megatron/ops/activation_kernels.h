// The activation kernels' interface: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>
#include <limits>

#include "megatron/ops/matmul/column_sum.h"

namespace megatron::kernels {

enum class Activation { gelu, gelu_tanh, squared_relu, silu, quick_gelu };

// What a gated unit does besides: y = activation(min(gate, limit)) * (clamp(up, -limit, limit) +
// offset). The default changes nothing.
struct GatedUnit {
  double limit = std::numeric_limits<double>::infinity();
  double offset = 0;
};

// y [rows, f] = activation(x + bias); with a gated unit: x [rows, 2f], the gate's columns first.
// bias and unit may be null.
template <typename T>
void activation_forward(Activation activation, const GatedUnit* unit, const T* x, const T* bias,
                        T* y, int64_t rows, int64_t f);

// grad_x like x, and the partial column sums of grad_x ([blocks.count, width of x]) unless null.
template <typename T, typename A>
void activation_backward(Activation activation, const GatedUnit* unit, const T* grad_y, const T* x,
                         const T* bias, T* grad_x, A* partials, const RowBlocks& blocks, int64_t f);

}  // namespace megatron::kernels
