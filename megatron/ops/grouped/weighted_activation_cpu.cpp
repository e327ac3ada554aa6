// Blocks of the activation between an expert's two products: CPU kernels.
#include "megatron/ops/activation_functions.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/grouped/weighted_activation_kernels.h"

namespace megatron::kernels {

namespace {

// The sum plus bias, rounded to T and stored.
template <typename T>
MEGATRON_INLINE lanes::Vector<T> store_hidden(const lanes::accumulation_t<T>* sums, const T* bias,
                                              T* hidden, int64_t i, int64_t count) {
  auto value = lanes::load<lanes::accumulation_t<T>>(sums + i, count);
  if (bias != nullptr) value += lanes::load<T>(bias + i, count);
  lanes::store<T>(hidden + i, value, count);
  return lanes::load<T>(hidden + i, count);
}

template <typename V>
MEGATRON_INLINE V at_most(V value, decltype(V{}[0]) limit) {
  return value > limit ? V{} + limit : value;
}

template <typename V>
MEGATRON_INLINE V at_least(V value, decltype(V{}[0]) limit) {
  return value < limit ? V{} + limit : value;
}

template <typename Function, typename T>
void forward_block(const GluOptions* glu, const ActivationBlock<T>& block) {
  using A = lanes::accumulation_t<T>;
  const A limit = glu != nullptr ? static_cast<A>(glu->clamp_value) : A(0);
  const A offset = glu != nullptr ? static_cast<A>(glu->linear_offset) : A(0);
  for (int64_t row = 0; row < block.rows; ++row) {
    const A weight = block.weights == nullptr ? A(1) : block.weights[row];
    const int64_t sums = row * block.sums_stride, hidden = row * block.hidden_stride;
    lanes::for_each_vector<T>(block.columns, [&](int64_t i, auto count) {
      lanes::Vector<T> value, slope;
      const auto gate =
          store_hidden<T>(block.sums + sums, block.bias, block.hidden + hidden, i, count);
      if (glu == nullptr) {
        Function::apply(gate, value, slope);
      } else {
        const auto up = store_hidden<T>(block.sums_up + sums, block.bias_up,
                                        block.hidden_up + hidden, i, count);
        Function::apply(at_most(gate, limit), value, slope);
        value = value * (at_least(at_most(up, limit), -limit) + offset);
      }
      lanes::store<T>(block.output + row * block.output_stride + i, value * weight, count);
    });
  }
}

template <typename Function, typename T>
void backward_block(const GluOptions* glu, const ActivationGradientBlock<T>& block) {
  using A = lanes::accumulation_t<T>;
  const A limit = glu != nullptr ? static_cast<A>(glu->clamp_value) : A(0);
  const A offset = glu != nullptr ? static_cast<A>(glu->linear_offset) : A(0);
  for (int64_t row = 0; row < block.rows; ++row) {
    const A weight = block.weights == nullptr ? A(1) : block.weights[row];
    const int64_t hidden = row * block.hidden_stride;
    lanes::Vector<T> dot{};
    lanes::for_each_vector<T>(block.columns, [&](int64_t i, auto count) {
      const auto unweighted =
          lanes::load<A>(block.gradient + row * block.gradient_stride + i, count);
      const auto gradient = unweighted * weight;
      const auto gate = lanes::load<T>(block.hidden + hidden + i, count);
      const lanes::Vector<T> zero{};
      lanes::Vector<T> value, slope;
      if (glu == nullptr) {
        Function::apply(gate, value, slope);
        lanes::store<T>(block.grad_hidden + hidden + i, gradient * slope, count);
      } else {
        const auto up = lanes::load<T>(block.hidden_up + hidden + i, count);
        Function::apply(at_most(gate, limit), value, slope);
        auto grad_up = gradient * value;
        grad_up = up > limit ? zero : grad_up;
        grad_up = up < -limit ? zero : grad_up;
        slope = gate > limit ? zero : slope;
        const auto factor = at_least(at_most(up, limit), -limit) + offset;
        lanes::store<T>(block.grad_hidden + hidden + i, gradient * factor * slope, count);
        lanes::store<T>(block.grad_hidden_up + hidden + i, grad_up, count);
        value = value * factor;
      }
      // Lanes beyond `count` hold a gradient of 0.
      dot += unweighted * value;
      if (block.output != nullptr) {
        lanes::store<T>(block.output + row * block.output_stride + i, value * weight, count);
      }
    });
    if (block.grad_weights != nullptr) {
      block.grad_weights[row * block.grad_weights_stride] = lanes::sum_lanes(dot);
    }
  }
}

}  // namespace

template <KernelLevel level, typename T>
void activation_block_forward(const ActivationFunction& activation,
                              const ActivationBlock<T>& block) {
  with_activation(activation.function, [&](auto function) {
    forward_block<decltype(function), T>(activation.glu, block);
  });
}

template <KernelLevel level, typename T>
void activation_block_backward(const ActivationFunction& activation,
                               const ActivationGradientBlock<T>& block) {
  with_activation(activation.function, [&](auto function) {
    backward_block<decltype(function), T>(activation.glu, block);
  });
}

#define MEGATRON_INSTANTIATE(T)                                                       \
  template void activation_block_forward<kKernelLevel, T>(const ActivationFunction&,  \
                                                          const ActivationBlock<T>&); \
  template void activation_block_backward<kKernelLevel, T>(const ActivationFunction&, \
                                                           const ActivationGradientBlock<T>&);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
