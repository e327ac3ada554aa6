// What happens to the sums of a product with packed weights. Only kernel files (*_cpu.cpp) include it.
#pragma once

#include "megatron/ops/activation_functions.h"
#include "megatron/ops/decode/packed_product_kernels.h"

namespace megatron::kernels {
inline namespace MEGATRON_KERNEL_LEVEL {

template <typename T>
MEGATRON_INLINE void finish_store(const PackedProduct& product, const float* sums, float* y,
                                  int64_t column, T count) {
  lanes::Floats value = lanes::load<float>(sums, count);
  if (product.bias != nullptr) value += lanes::load<float>(product.bias + column, count);
  if (product.epilogue == ProductEpilogue::add)
    value = lanes::load<float>(y + column, count) + product.scale * value;
  lanes::store<float>(y + column, value, count);
}

template <typename Z, typename Function>
MEGATRON_INLINE void finish_activation(const PackedProduct& product, Function, const float* gate,
                                       const float* up, Z* z, int64_t column, int64_t count) {
  lanes::Floats value = lanes::load<float>(gate, count), slope;
  if (product.bias != nullptr) value += lanes::load<float>(product.bias + column, count);
  if (up != nullptr) {
    const auto clamp = static_cast<float>(product.glu.clamp_value);
    lanes::Floats linear = lanes::load<float>(up, count);
    if (product.bias != nullptr)
      linear += lanes::load<float>(product.bias + product.n + column, count);
    value = value > clamp ? lanes::Floats{} + clamp : value;
    linear = linear > clamp ? lanes::Floats{} + clamp : linear;
    linear = linear < -clamp ? lanes::Floats{} - clamp : linear;
    Function::apply(value, value, slope);
    value *= linear + static_cast<float>(product.glu.linear_offset);
  } else {
    Function::apply(value, value, slope);
  }
  lanes::store<Z>(z + column, value, count);
}

// Applies the epilogue to the sums of `panels` panels of one row. Z: the type of activations.
template <typename Z>
void finish_row(const PackedProduct& product, int64_t row, int64_t first_panel, int64_t panels,
                const float* sums) {
  constexpr int64_t width = 16;
  const bool is_glu = product.epilogue == ProductEpilogue::activate_glu;
  const bool activates = is_glu || product.epilogue == ProductEpilogue::activate;
  const int64_t first = (is_glu ? first_panel / 2 : first_panel) * kDecodePanel;
  const int64_t columns = is_glu ? kDecodePanel : panels * kDecodePanel;
  const int64_t end = columns < product.n - first ? columns : product.n - first;
  if (!activates) {
    float* y = product.y + row * product.y_stride;
    lanes::for_each_vector<float>(
        end, [&](int64_t i, auto count) { finish_store(product, sums + i, y, first + i, count); });
    return;
  }
  Z* z = static_cast<Z*>(product.z) + row * product.z_stride;
  with_activation(product.activation, [&](auto function) {
    for (int64_t i = 0; i < end; i += width) {
      finish_activation(product, function, sums + i, is_glu ? sums + kDecodePanel + i : nullptr, z,
                        first + i, end - i < width ? end - i : width);
    }
  });
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::kernels
