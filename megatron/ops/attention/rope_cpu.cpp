// Rotary position embedding: CPU kernel.
#include <algorithm>

#include "megatron/ops/attention/rope_kernels.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"

namespace megatron::kernels {

namespace {

// Pairs (i, i + half). Forward: y1 = x1 cos1 - x2 sin1, y2 = x2 cos2 + x1 sin2. Backward applies
// the transpose.
template <typename T>
void rotate_halves(int64_t half, bool backward, const T* in, const T* cosine, const T* sine,
                   T* out) {
  lanes::for_each_vector<T>(half, [&](int64_t i, auto count) {
    const auto first = lanes::load<T>(in + i, count);
    const auto second = lanes::load<T>(in + half + i, count);
    const auto cosine1 = lanes::load<T>(cosine + i, count);
    const auto cosine2 = lanes::load<T>(cosine + half + i, count);
    auto sine1 = lanes::load<T>(sine + i, count);
    auto sine2 = lanes::load<T>(sine + half + i, count);
    if (backward) {
      std::swap(sine1, sine2);
      sine1 = -sine1;
      sine2 = -sine2;
    }
    lanes::store<T>(out + i, first * cosine1 - second * sine1, count);
    lanes::store<T>(out + half + i, second * cosine2 + first * sine2, count);
  });
}

// Pairs (2i, 2i + 1).
template <typename T>
void rotate_interleaved(int64_t rotary, bool backward, const T* in, const T* cosine, const T* sine,
                        T* out) {
  using A = lanes::accumulation_t<T>;
  for (int64_t i = 0; i < rotary; i += 2) {
    const A first = in[i], second = in[i + 1];
    const A sine1 = backward ? -static_cast<A>(sine[i + 1]) : static_cast<A>(sine[i]);
    const A sine2 = backward ? -static_cast<A>(sine[i]) : static_cast<A>(sine[i + 1]);
    out[i] = static_cast<T>(first * static_cast<A>(cosine[i]) - second * sine1);
    out[i + 1] = static_cast<T>(second * static_cast<A>(cosine[i + 1]) + first * sine2);
  }
}

}  // namespace

template <KernelLevel level, typename T>
void rotate(const RotaryShape& shape, const T* in, const T* cosines, const T* sines, T* out) {
  const int64_t row = shape.n * shape.d;
  parallel_for(0, shape.s * shape.b, row_grain(row), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t s = index / shape.b, b = index % shape.b;
      const int64_t table_row = shape.table_per_sample ? index : s;
      const T* cosine = cosines + table_row * shape.rotary;
      const T* sine = sines + table_row * shape.rotary;
      for (int64_t n = 0; n < shape.n; ++n) {
        const T* from = in + s * shape.stride_s + b * shape.stride_b + n * shape.stride_n;
        T* to = out + index * row + n * shape.d;
        if (shape.interleaved) {
          rotate_interleaved<T>(shape.rotary, shape.backward, from, cosine, sine, to);
        } else {
          rotate_halves<T>(shape.rotary / 2, shape.backward, from, cosine, sine, to);
        }
        std::copy(from + shape.rotary, from + shape.d, to + shape.rotary);
      }
    }
  });
}

template void rotate<kKernelLevel>(const RotaryShape&, const float*, const float*, const float*,
                                   float*);
template void rotate<kKernelLevel>(const RotaryShape&, const double*, const double*, const double*,
                                   double*);
template void rotate<kKernelLevel>(const RotaryShape&, const c10::BFloat16*, const c10::BFloat16*,
                                   const c10::BFloat16*, c10::BFloat16*);
template void rotate<kKernelLevel>(const RotaryShape&, const c10::Half*, const c10::Half*,
                                   const c10::Half*, c10::Half*);

}  // namespace megatron::kernels
