// The activation functions of the kernels. Only kernel files (*_cpu.cpp) include it.
#pragma once

#include "megatron/ops/activation_kernels.h"
#include "megatron/ops/core/vector_math.h"

namespace megatron::kernels {
inline namespace MEGATRON_KERNEL_LEVEL {

// Each computes value = a(x) and slope = a'(x).
struct Gelu {
  template <typename V>
  static MEGATRON_INLINE void apply(V x, V& value, V& slope) {
    V density, cumulative;
    lanes::normal_distribution(x, density, cumulative);
    value = x * cumulative;
    slope = cumulative + x * density * 0.398942280401432678;
  }
  static MEGATRON_INLINE void apply(lanes::Floats x, lanes::Floats& value, lanes::Floats& slope) {
    lanes::Floats density, cumulative;
    lanes::normal_distribution(x, density, cumulative);
    value = x * cumulative;
    slope = cumulative + x * density * 0.398942280f;
  }
};

// 0.5 (1 + tanh(u)) = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
struct GeluTanh {
  template <typename V>
  static MEGATRON_INLINE void apply(V x, V& value, V& slope) {
    using Scalar = std::remove_cvref_t<decltype(x[0])>;
    constexpr auto linear = static_cast<Scalar>(1.59576912160573071);
    constexpr auto cubic = static_cast<Scalar>(0.0713548162726009);
    const V square = x * x;
    const V weight = lanes::sigmoid(x * (linear + cubic * square));
    value = x * weight;
    slope = weight + x * weight * (1 - weight) * (linear + 3 * cubic * square);
  }
};

struct SquaredRelu {
  template <typename V>
  static MEGATRON_INLINE void apply(V x, V& value, V& slope) {
    const V positive = x < 0 ? V{} : x;
    value = positive * positive;
    slope = positive + positive;
  }
};

struct Silu {
  template <typename V>
  static MEGATRON_INLINE void apply(V x, V& value, V& slope) {
    const V weight = lanes::sigmoid(x);
    value = x * weight;
    slope = weight + value * (1 - weight);
  }
};

// x * sigmoid(1.702 x).
struct QuickGelu {
  template <typename V>
  static MEGATRON_INLINE void apply(V x, V& value, V& slope) {
    using Scalar = std::remove_cvref_t<decltype(x[0])>;
    constexpr auto steepness = static_cast<Scalar>(1.702);
    const V weight = lanes::sigmoid(x * steepness);
    value = x * weight;
    slope = weight + steepness * value * (1 - weight);
  }
};

// Calls body with a value of the function's type.
template <typename Body>
void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::gelu:
      return body(Gelu{});
    case Activation::gelu_tanh:
      return body(GeluTanh{});
    case Activation::squared_relu:
      return body(SquaredRelu{});
    case Activation::silu:
      return body(Silu{});
    case Activation::quick_gelu:
      return body(QuickGelu{});
  }
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::kernels
