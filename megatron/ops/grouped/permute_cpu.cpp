// permute and unpermute: CPU kernels. Each output row is written by one task, in a fixed order.
#include <algorithm>

#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/grouped/permute_kernels.h"

namespace megatron::kernels {

template <KernelLevel level, typename T, typename A>
void gather_rows(int64_t rows, int64_t h, const int64_t* row_token, const T* from, const A* weights,
                 T* to) {
  parallel_for(0, rows, row_grain(h), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      T* out = to + row * h;
      if (row_token[row] < 0) {
        std::fill(out, out + h, T(0));
        continue;
      }
      const T* in = from + row_token[row] * h;
      if (weights == nullptr) {
        std::copy(in, in + h, out);
        continue;
      }
      const A weight = weights[row];
      lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
        lanes::store<T>(out + i, lanes::load<T>(in + i, count) * weight, count);
      });
    }
  });
}

template <KernelLevel level, typename T, typename A>
void sum_token_rows(const TokenRows& index, int64_t h, const T* from, const A* weights, T* to) {
  parallel_for(0, index.tokens, row_grain(h), [&](int64_t first, int64_t last) {
    for (int64_t token = first; token < last; ++token) {
      const int64_t *begin = index.token_rows + index.token_offsets[token],
                    *end = index.token_rows + index.token_offsets[token + 1];
      T* out = to + token * h;
      lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
        lanes::Vector<T> sum{};
        for (const int64_t* row = begin; row < end; ++row) {
          const auto value = lanes::load<T>(from + *row * h + i, count);
          sum += weights == nullptr ? value : value * weights[*row];
        }
        lanes::store<T>(out + i, sum, count);
      });
    }
  });
}

template <KernelLevel level, typename T, typename A>
void dot_rows(int64_t rows, int64_t h, const int64_t* row_token, const T* row_values,
              const T* token_values, A* to) {
  parallel_for(0, rows, row_grain(h), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      if (row_token[row] < 0) {
        to[row] = 0;
        continue;
      }
      const T *left = row_values + row * h, *right = token_values + row_token[row] * h;
      lanes::Vector<T> sum{};
      lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
        sum += lanes::load<T>(left + i, count) * lanes::load<T>(right + i, count);
      });
      to[row] = lanes::sum_lanes(sum);
    }
  });
}

#define MEGATRON_INSTANTIATE(T, A)                                                               \
  template void gather_rows<kKernelLevel>(int64_t, int64_t, const int64_t*, const T*, const A*,  \
                                          T*);                                                   \
  template void sum_token_rows<kKernelLevel>(const TokenRows&, int64_t, const T*, const A*, T*); \
  template void dot_rows<kKernelLevel>(int64_t, int64_t, const int64_t*, const T*, const T*, A*);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
MEGATRON_INSTANTIATE(c10::Half, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
