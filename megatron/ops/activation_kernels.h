// The activation kernels' interface: plain pointers, T one of float, double, BFloat16.
#pragma once

#include <cstdint>
#include <limits>

#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/matmul/column_sum_kernels.h"

namespace megatron::kernels {

enum class Activation { gelu, gelu_tanh, squared_relu, silu, quick_gelu };

// A gated linear unit as in GPT-OSS: activation(min(gate, clamp_value)) * (clamp(up, -clamp_value,
// clamp_value) + linear_offset). The defaults give activation(gate) * up.
struct GluOptions {
  double clamp_value = std::numeric_limits<double>::infinity();
  double linear_offset = 0;
};

// y [rows, f] = activation(x + bias). With `glu`, x is [rows, 2f] with the gate's columns first.
// bias and glu may be null.
template <KernelLevel level, typename T>
void activation_forward(Activation activation, const GluOptions* glu, const T* x, const T* bias,
                        T* y, int64_t rows, int64_t f);

// grad_x has x's shape. partials receives the partial column sums of grad_x, [blocks.count, width
// of x], unless it is null. y, unless it is null, receives activation_forward's y again; it may be
// grad_y itself.
template <KernelLevel level, typename T, typename A>
void activation_backward(Activation activation, const GluOptions* glu, const T* grad_y, const T* x,
                         const T* bias, T* grad_x, T* y, A* partials, const RowBlocks& blocks,
                         int64_t f);

}  // namespace megatron::kernels
