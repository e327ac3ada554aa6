// Optimizer steps and sums of squares: CPU kernels.
#include <algorithm>

#include "megatron/base/integer_math.h"
#include "megatron/ops/adam_kernels.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"

namespace megatron::kernels {

namespace {
constexpr int64_t kOptimizerGrain = 32768;
}  // namespace

template <KernelLevel level, typename A, typename G, typename C>
void adam(int64_t count, A* master, A* exp_avg, A* exp_avg_sq, const G* grad, C* model_copy,
          const AdamScalars& scalars) {
  const A decay = static_cast<A>(scalars.decay), l2 = static_cast<A>(scalars.l2);
  const A beta1 = static_cast<A>(scalars.beta1),
          one_minus_beta1 = static_cast<A>(1 - scalars.beta1);
  const A beta2 = static_cast<A>(scalars.beta2),
          one_minus_beta2 = static_cast<A>(1 - scalars.beta2);
  const A rate = static_cast<A>(scalars.rate), correction = static_cast<A>(scalars.correction);
  const A eps = static_cast<A>(scalars.eps), grad_scale = static_cast<A>(scalars.grad_scale);
  parallel_for(0, count, kOptimizerGrain, [&](int64_t first, int64_t last) {
    lanes::for_each_vector<A>(last - first, [&](int64_t offset, auto size) {
      const int64_t i = first + offset;
      auto p = lanes::load<A>(master + i, size);
      const auto g = lanes::load<G>(grad + i, size) * grad_scale + p * l2;
      p = p * decay;
      const auto m = lanes::load<A>(exp_avg + i, size) * beta1 + g * one_minus_beta1;
      const auto v = lanes::load<A>(exp_avg_sq + i, size) * beta2 + g * g * one_minus_beta2;
      p = p - m * rate / (lanes::sqrt(v * correction) + eps);
      lanes::store<A>(exp_avg + i, m, size);
      lanes::store<A>(exp_avg_sq + i, v, size);
      lanes::store<A>(master + i, p, size);
      if (model_copy != nullptr) lanes::store<C>(model_copy + i, p, size);
    });
  });
}

template <KernelLevel level, typename A, typename G, typename C>
void sgd(int64_t count, A* master, A* buffer, const G* grad, C* model_copy,
         const SgdScalars& scalars) {
  const A rate = static_cast<A>(scalars.lr), momentum = static_cast<A>(scalars.momentum);
  const A l2 = static_cast<A>(scalars.l2);
  const A grad_scale = static_cast<A>(scalars.grad_scale);
  const bool first_step = scalars.first_step;
  parallel_for(0, count, kOptimizerGrain, [&](int64_t first, int64_t last) {
    lanes::for_each_vector<A>(last - first, [&](int64_t offset, auto size) {
      const int64_t i = first + offset;
      auto p = lanes::load<A>(master + i, size);
      auto g = lanes::load<G>(grad + i, size) * grad_scale + p * l2;
      if (buffer != nullptr) {
        if (!first_step) g = lanes::load<A>(buffer + i, size) * momentum + g;
        lanes::store<A>(buffer + i, g, size);
      }
      p = p - g * rate;
      lanes::store<A>(master + i, p, size);
      if (model_copy != nullptr) lanes::store<C>(model_copy + i, p, size);
    });
  });
}

namespace {

using EightFloats = float __attribute__((vector_size(32)));

// Loads 8 elements as doubles.
MEGATRON_INLINE lanes::Doubles load_doubles(const double* from) {
  return lanes::load<double>(from);
}
MEGATRON_INLINE lanes::Doubles load_doubles(const float* from) {
  EightFloats values;
  std::memcpy(&values, from, sizeof(values));
  return __builtin_convertvector(values, lanes::Doubles);
}
MEGATRON_INLINE lanes::Doubles load_doubles(const c10::BFloat16* from) {
  float values[8];
  for (int i = 0; i < 8; ++i) values[i] = from[i];
  return load_doubles(values);
}
MEGATRON_INLINE lanes::Doubles load_doubles(const c10::Half* from) {
  lanes::HalfWords halves = {};
  std::memcpy(&halves, from, 8 * sizeof(*from));
  float values[16];
  const lanes::Floats wide = lanes::widen_half(halves);
  std::memcpy(values, &wide, sizeof(wide));
  return load_doubles(values);
}

}  // namespace

template <KernelLevel level, typename T>
void block_square_sums(int64_t count, const T* values, double* block_sums) {
  const int64_t blocks = ceil_div(count, kNormBlock);
  parallel_for(0, blocks, 2, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const T* from = values + block * kNormBlock;
      const int64_t size = std::min(kNormBlock, count - block * kNormBlock);
      lanes::Doubles sums[4] = {};
      int64_t i = 0;
      for (; i + 32 <= size; i += 32) {
        for (int j = 0; j < 4; ++j) {
          const auto value = load_doubles(from + i + 8 * j);
          sums[j] += value * value;
        }
      }
      double tail = 0;
      for (; i < size; ++i) tail += static_cast<double>(from[i]) * static_cast<double>(from[i]);
      block_sums[block] = lanes::sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3])) + tail;
    }
  });
}

#define MEGATRON_INSTANTIATE(A, G, C)                                                      \
  template void adam<kKernelLevel>(int64_t, A*, A*, A*, const G*, C*, const AdamScalars&); \
  template void sgd<kKernelLevel>(int64_t, A*, A*, const G*, C*, const SgdScalars&);
MEGATRON_INSTANTIATE(float, float, float)
MEGATRON_INSTANTIATE(float, float, c10::BFloat16)
MEGATRON_INSTANTIATE(float, c10::BFloat16, float)
MEGATRON_INSTANTIATE(float, c10::BFloat16, c10::BFloat16)
MEGATRON_INSTANTIATE(float, float, c10::Half)
MEGATRON_INSTANTIATE(double, double, double)
#undef MEGATRON_INSTANTIATE
template void block_square_sums<kKernelLevel>(int64_t, const float*, double*);
template void block_square_sums<kKernelLevel>(int64_t, const double*, double*);
template void block_square_sums<kKernelLevel>(int64_t, const c10::BFloat16*, double*);
template void block_square_sums<kKernelLevel>(int64_t, const c10::Half*, double*);

}  // namespace megatron::kernels
