// Row statistics and gradient of the cross-entropy: CPU kernels. A row of 50 thousand fp32 logits
// fits in the second-level cache, so the second pass over it does not read memory.
#include <algorithm>
#include <limits>

#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/loss/cross_entropy_kernels.h"

namespace megatron::kernels {

namespace {

template <typename A>
constexpr A kLowest = -std::numeric_limits<A>::infinity();

template <typename T, typename A>
A logit_row_max(const T* row, int64_t columns) {
  constexpr int width = lanes::width<T>;
  lanes::Vector<T> largest[4];
  for (auto& vector : largest) vector = lanes::broadcast<T>(kLowest<A>);
  int64_t i = 0;
  for (; i + 4 * width <= columns; i += 4 * width) {
    for (int j = 0; j < 4; ++j) {
      largest[j] = lanes::maximum(lanes::load<T>(row + i + j * width), largest[j]);
    }
  }
  for (; i < columns; i += width) {
    const int64_t count = std::min<int64_t>(width, columns - i);
    largest[0] = lanes::maximum(lanes::load<T>(row + i, count, kLowest<A>), largest[0]);
  }
  return lanes::max_lanes(lanes::maximum(lanes::maximum(largest[0], largest[1]),
                                         lanes::maximum(largest[2], largest[3])));
}

// The sum of term(logits) over a row, in a fixed order; lanes beyond the end hold `fill`.
template <typename T, typename A, typename Term>
A logit_row_sum(const T* row, int64_t columns, A fill, const Term& term) {
  constexpr int width = lanes::width<T>;
  lanes::Vector<T> sums[2] = {};
  int64_t i = 0;
  for (; i + 2 * width <= columns; i += 2 * width) {
    sums[0] += term(lanes::load<T>(row + i));
    sums[1] += term(lanes::load<T>(row + i + width));
  }
  for (; i < columns; i += width) {
    const int64_t count = std::min<int64_t>(width, columns - i);
    sums[0] += term(lanes::load<T>(row + i, count, fill));
  }
  return lanes::sum_lanes(sums[0] + sums[1]);
}

}  // namespace

template <KernelLevel level, typename T, typename A>
void cross_entropy_accumulate(const LogitShape& shape, const T* logits, A scale,
                              const int64_t* targets, const LogitStatistics<A>& statistics) {
  if (shape.valid_columns == 0) return;
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = logits + row * shape.stride;
      const A before = statistics.row_max[row];
      const A maximum = std::max(before, scale * logit_row_max<T, A>(from, shape.valid_columns));
      // If every logit so far is minus infinity, the exponentials are 0 rather than NaN.
      const A pivot = maximum == kLowest<A> ? A(0) : maximum;
      const A sum = logit_row_sum<T, A>(from, shape.valid_columns, kLowest<A>,
                                        [=](auto x) { return lanes::exp(x * scale - pivot); });
      statistics.sum_exp[row] = statistics.sum_exp[row] * std::exp(before - pivot) + sum;
      statistics.row_max[row] = maximum;
      const int64_t target = targets[row] - shape.vocab_start;
      if (target >= 0 && target < shape.valid_columns) {
        statistics.target_logit[row] = scale * static_cast<A>(from[target]);
      }
      if (statistics.logit_sum != nullptr) {
        statistics.logit_sum[row] +=
            scale * logit_row_sum<T, A>(from, shape.valid_columns, A(0), [](auto x) { return x; });
      }
    }
  });
}

template <KernelLevel level, typename T, typename A>
void cross_entropy_gradient(const LogitShape& shape, const T* logits, A scale, const A* row_max,
                            const A* sum_exp, const int64_t* targets,
                            const TargetDistribution<A>& distribution, const A* grad_loss,
                            T* grad) {
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = logits + row * shape.stride;
      T* to = grad + row * shape.columns;
      const int64_t target = targets[row] - shape.vocab_start;
      const bool here = target >= 0 && target < shape.valid_columns;
      const A maximum = row_max[row];
      const A outer = grad_loss[row] * scale;
      if (outer == 0) {  // a masked token: the logits are not read
        std::fill(to, to + shape.columns, T(0));
        continue;
      }
      const A factor = outer / sum_exp[row];
      const A even = outer * distribution.even_weight;
      // Read the target's logit before it may be overwritten (in place).
      const A logit = here ? scale * static_cast<A>(from[target]) : A(0);
      lanes::for_each_vector<T>(shape.valid_columns, [&](int64_t i, auto count) {
        const auto x = lanes::load<T>(from + i, count);
        lanes::store<T>(to + i, lanes::exp(x * scale - maximum) * factor - even, count);
      });
      std::fill(to + shape.valid_columns, to + shape.columns, T(0));
      if (here) {
        const A probability = std::exp(logit - maximum) / sum_exp[row];
        to[target] = static_cast<T>(
            (probability - distribution.target_weight - distribution.even_weight) * outer);
      }
    }
  });
}

template <KernelLevel level, typename T, typename A>
void logit_argmax(const LogitShape& shape, const T* logits, A* largest, int64_t* column) {
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = logits + row * shape.stride;
      largest[row] = logit_row_max<T, A>(from, shape.valid_columns);
      column[row] = 0;
      if (largest[row] == kLowest<A>) continue;
      while (!(static_cast<A>(from[column[row]]) == largest[row])) ++column[row];
    }
  });
}

#define MEGATRON_INSTANTIATE(T, A)                                                                 \
  template void cross_entropy_accumulate<kKernelLevel>(const LogitShape&, const T*, A,             \
                                                       const int64_t*, const LogitStatistics<A>&); \
  template void cross_entropy_gradient<kKernelLevel>(const LogitShape&, const T*, A, const A*,     \
                                                     const A*, const int64_t*,                     \
                                                     const TargetDistribution<A>&, const A*, T*);  \
  template void logit_argmax<kKernelLevel>(const LogitShape&, const T*, A*, int64_t*);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
MEGATRON_INSTANTIATE(c10::Half, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
