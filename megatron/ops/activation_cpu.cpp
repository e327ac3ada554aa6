// Bias and activation in one pass over memory: CPU kernels.
#include "megatron/ops/activation_functions.h"
#include "megatron/ops/activation_kernels.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"

namespace megatron::kernels {

namespace {

template <typename T>
MEGATRON_INLINE lanes::Vector<T> load_biased(const T* x, const T* bias, int64_t i, int64_t count) {
  const auto value = lanes::load<T>(x + i, count);
  return bias == nullptr ? value : value + lanes::load<T>(bias + i, count);
}

template <typename Function, typename T>
void forward_rows(const GluOptions* glu, const T* x, const T* bias, T* y, int64_t rows, int64_t f) {
  using A = lanes::accumulation_t<T>;
  const int64_t width = glu != nullptr ? 2 * f : f;
  const A limit = glu != nullptr ? static_cast<A>(glu->clamp_value) : A(0);
  const A offset = glu != nullptr ? static_cast<A>(glu->linear_offset) : A(0);
  parallel_for(0, rows, row_grain(f), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = x + row * width;
      T* to = y + row * f;
      lanes::for_each_vector<T>(f, [&](int64_t i, auto count) {
        lanes::Vector<T> value, slope, gate = load_biased(from, bias, i, count);
        if (glu == nullptr) {
          Function::apply(gate, value, slope);
        } else {
          gate = gate > limit ? gate - gate + limit : gate;
          Function::apply(gate, value, slope);
          auto up = load_biased(from, bias, f + i, count);
          up = up > limit ? up - up + limit : up;
          up = up < -limit ? up - up - limit : up;
          value = value * (up + offset);
        }
        lanes::store<T>(to + i, value, count);
      });
    }
  });
}

template <typename T, typename A>
MEGATRON_INLINE void store_gradient(T* grad_x, A* sums, int64_t i, lanes::Vector<T> gradient,
                                    int64_t count) {
  lanes::store<T>(grad_x + i, gradient, count);
  if (sums != nullptr) {
    lanes::store<A>(sums + i, lanes::load<A>(sums + i, count) + gradient, count);
  }
}

template <typename Function, typename T, typename A>
void backward_rows(const GluOptions* glu, const T* grad_y, const T* x, const T* bias, T* grad_x,
                   T* y, A* partials, const RowBlocks& blocks, int64_t f) {
  const int64_t width = glu != nullptr ? 2 * f : f;
  const A limit = glu != nullptr ? static_cast<A>(glu->clamp_value) : A(0);
  const A offset = glu != nullptr ? static_cast<A>(glu->linear_offset) : A(0);
  parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      A* sums = partials == nullptr ? nullptr : partials + block * width;
      if (sums != nullptr) std::fill(sums, sums + width, A(0));
      const int64_t begin = block * blocks.rows_per_block;
      const int64_t end = std::min(blocks.rows, begin + blocks.rows_per_block);
      for (int64_t row = begin; row < end; ++row) {
        const T* from = x + row * width;
        T* to = grad_x + row * width;
        lanes::for_each_vector<T>(f, [&](int64_t i, auto count) {
          const auto gradient = lanes::load<T>(grad_y + row * f + i, count);
          lanes::Vector<T> value, slope, gate = load_biased(from, bias, i, count);
          if (glu == nullptr) {
            Function::apply(gate, value, slope);
            store_gradient<T, A>(to, sums, i, gradient * slope, count);
            if (y != nullptr) lanes::store<T>(y + row * f + i, value, count);
          } else {
            const auto unclamped = gate;
            const lanes::Vector<T> zero{};
            gate = gate > limit ? gate - gate + limit : gate;
            Function::apply(gate, value, slope);
            auto up = load_biased(from, bias, f + i, count);
            auto up_gradient = gradient * value;
            up_gradient = up > limit ? zero : up_gradient;
            up_gradient = up < -limit ? zero : up_gradient;
            up = up > limit ? up - up + limit : up;
            up = up < -limit ? up - up - limit : up;
            slope = unclamped > limit ? zero : slope;
            store_gradient<T, A>(to, sums, i, gradient * (up + offset) * slope, count);
            store_gradient<T, A>(to, sums, f + i, up_gradient, count);
            if (y != nullptr) lanes::store<T>(y + row * f + i, value * (up + offset), count);
          }
        });
      }
    }
  });
}

}  // namespace

template <KernelLevel level, typename T>
void activation_forward(Activation activation, const GluOptions* glu, const T* x, const T* bias,
                        T* y, int64_t rows, int64_t f) {
  with_activation(activation, [&](auto function) {
    forward_rows<decltype(function), T>(glu, x, bias, y, rows, f);
  });
}

template <KernelLevel level, typename T, typename A>
void activation_backward(Activation activation, const GluOptions* glu, const T* grad_y, const T* x,
                         const T* bias, T* grad_x, T* y, A* partials, const RowBlocks& blocks,
                         int64_t f) {
  with_activation(activation, [&](auto function) {
    backward_rows<decltype(function), T, A>(glu, grad_y, x, bias, grad_x, y, partials, blocks, f);
  });
}

#define MEGATRON_INSTANTIATE(T, A)                                                         \
  template void activation_forward<kKernelLevel>(Activation, const GluOptions*, const T*,  \
                                                 const T*, T*, int64_t, int64_t);          \
  template void activation_backward<kKernelLevel>(Activation, const GluOptions*, const T*, \
                                                  const T*, const T*, T*, T*, A*,          \
                                                  const RowBlocks&, int64_t);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
MEGATRON_INSTANTIATE(c10::Half, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
