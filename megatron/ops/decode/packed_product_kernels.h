// The kernels of PackedMatrix: plain pointers. W, the type of the weights, is float, BFloat16 or
// Half. Activations are fp32, or bf16 beside bf16 weights, so that dot-product instructions apply.
#pragma once

#include <cstdint>
#include <type_traits>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "megatron/ops/activation_kernels.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// Weights [n, k] are stored as panels of 32 outputs: panel p holds outputs [32 p, 32 p + 32), and a
// thread reads it from begin to end. fp32 and fp16: [k][32]; bf16: [k / 2][32][2] with k even. Panels
// beyond n are filled with zeros.
inline constexpr int64_t kDecodePanel = 32;

template <typename W>
using decode_input_t = std::conditional_t<std::is_same_v<W, c10::BFloat16>, c10::BFloat16, float>;

enum class ProductEpilogue {
  store,         // y = product + bias
  add,           // y += scale * (product + bias)
  activate,      // z = activation(product + bias)
  activate_glu,  // z = activation(gate) * up: even panels hold gates, odd ones the same up columns
};

// product [rows, n] = x [rows, k] weights^T, each element summed in order of k in fp32: a row's
// result does not depend on the other rows.
struct PackedProduct {
  int64_t rows = 0, n = 0, k = 0;  // n counts outputs; with activate_glu, those of one half
  const void* x = nullptr;         // decode_input_t<W> [rows, k]; rows are x_stride apart
  int64_t x_stride = 0;
  const void* panels = nullptr;
  const float* bias = nullptr;  // [n], or null; with activate_glu, [2 n]: gates, then up
  ProductEpilogue epilogue = ProductEpilogue::store;
  float* y = nullptr;  // store, add: [rows, n]; rows are y_stride apart
  int64_t y_stride = 0;
  float scale = 1;
  void* z = nullptr;  // activate, activate_glu: decode_input_t<W> [rows, n]
  int64_t z_stride = 0;
  Activation activation = Activation::gelu;
  GluOptions glu = {};
};

// Computes rows [first_row, last_row) of panels [first, last). With activate_glu, `first` and `last`
// are even.
template <KernelLevel level, typename W>
void packed_product(const PackedProduct& product, int64_t first, int64_t last, int64_t first_row,
                    int64_t last_row);

// Writes outputs [0, count) of one panel: row i is weight + i * stride, or zeros from `count` on.
template <KernelLevel level, typename W>
void pack_panel(const W* weight, int64_t stride, int64_t count, int64_t k, W* panel);

}  // namespace megatron::kernels
