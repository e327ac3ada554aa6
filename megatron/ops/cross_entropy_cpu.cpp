// Row statistics and gradient of the cross-entropy: CPU kernels. A row of 50 thousand fp32 logits
// fits in the second-level cache, so that its second pass does not reach memory.
#include <algorithm>
#include <limits>

#include "megatron/ops/cross_entropy_kernels.h"
#include "megatron/ops/parallel_for.h"
#include "megatron/ops/vector_math.h"

namespace megatron::kernels {

namespace {

template <typename T, typename A>
A logit_row_max(const T* row, int64_t columns) {
  constexpr int width = lanes::width<T>;
  constexpr A lowest = -std::numeric_limits<A>::infinity();
  lanes::Vector<T> largest[4];
  for (auto& vector : largest) vector = lanes::broadcast<T>(lowest);
  int64_t i = 0;
  for (; i + 4 * width <= columns; i += 4 * width) {
    for (int j = 0; j < 4; ++j) {
      largest[j] = lanes::maximum(lanes::load<T>(row + i + j * width), largest[j]);
    }
  }
  for (; i < columns; i += width) {
    const int64_t count = std::min<int64_t>(width, columns - i);
    largest[0] = lanes::maximum(lanes::load<T>(row + i, count, lowest), largest[0]);
  }
  return lanes::max_lanes(lanes::maximum(lanes::maximum(largest[0], largest[1]),
                                         lanes::maximum(largest[2], largest[3])));
}

template <typename T, typename A>
A logit_row_sum_exp(const T* row, int64_t columns, A maximum) {
  constexpr int width = lanes::width<T>;
  lanes::Vector<T> sums[2] = {};
  int64_t i = 0;
  for (; i + 2 * width <= columns; i += 2 * width) {
    sums[0] += lanes::exp(lanes::load<T>(row + i) - maximum);
    sums[1] += lanes::exp(lanes::load<T>(row + i + width) - maximum);
  }
  for (; i < columns; i += width) {
    const int64_t count = std::min<int64_t>(width, columns - i);
    const auto filled = lanes::load<T>(row + i, count, -std::numeric_limits<A>::infinity());
    sums[0] += lanes::exp(filled - maximum);
  }
  return lanes::sum_lanes(sums[0] + sums[1]);
}

}  // namespace

template <typename T, typename A>
void cross_entropy_max(const LogitShape& shape, const T* logits, A* row_max) {
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      row_max[row] = logit_row_max<T, A>(logits + row * shape.stride, shape.valid_columns);
    }
  });
}

template <typename T, typename A>
void cross_entropy_sums(const LogitShape& shape, bool find_max, const T* logits, A* row_max,
                        const int64_t* targets, A* sum_exp, A* target_logit) {
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = logits + row * shape.stride;
      if (find_max) row_max[row] = logit_row_max<T, A>(from, shape.valid_columns);
      const A maximum = row_max[row];
      sum_exp[row] = shape.valid_columns == 0
                         ? A(0)
                         : logit_row_sum_exp<T, A>(from, shape.valid_columns, maximum);
      const int64_t target = targets[row] - shape.vocab_start;
      const bool here = target >= 0 && target < shape.valid_columns;
      target_logit[row] = here ? static_cast<A>(from[target]) - maximum : A(0);
    }
  });
}

template <typename T, typename A>
void cross_entropy_gradient(const LogitShape& shape, const T* logits, const A* row_max,
                            const A* sum_exp, const int64_t* targets, const A* grad_loss, T* grad) {
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = logits + row * shape.stride;
      T* to = grad + row * shape.columns;
      const int64_t target = targets[row] - shape.vocab_start;
      const bool here = target >= 0 && target < shape.valid_columns;
      const A maximum = row_max[row];
      const A factor = grad_loss[row] / sum_exp[row];
      if (grad_loss[row] == 0) {  // masked tokens: no need to look at the logits
        std::fill(to, to + shape.columns, T(0));
        continue;
      }
      // In place, the target's logit is overwritten: read it first.
      const A logit = here ? static_cast<A>(from[target]) : A(0);
      lanes::for_each_vector<T>(shape.valid_columns, [&](int64_t i, auto count) {
        lanes::store<T>(to + i, lanes::exp(lanes::load<T>(from + i, count) - maximum) * factor,
                        count);
      });
      std::fill(to + shape.valid_columns, to + shape.columns, T(0));
      if (here) {
        const A probability = std::exp(logit - maximum) / sum_exp[row];
        to[target] = static_cast<T>((probability - 1) * grad_loss[row]);
      }
    }
  });
}

#define MEGATRON_INSTANTIATE(T, A)                                                                 \
  template void cross_entropy_max(const LogitShape&, const T*, A*);                                \
  template void cross_entropy_sums(const LogitShape&, bool, const T*, A*, const int64_t*, A*, A*); \
  template void cross_entropy_gradient(const LogitShape&, const T*, const A*, const A*,            \
                                       const int64_t*, const A*, T*);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
