// LayerNorm and RMSNorm: CPU kernels. A row stays in the first-level cache between its passes.
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/norm_kernels.h"

namespace megatron::kernels {

namespace {

// The sum of term(i, count) over a row; lanes of the term from `count` on must be zero. Four
// accumulators hide the latency of the additions. The order depends on h only.
template <typename T, typename Term>
MEGATRON_INLINE lanes::accumulation_t<T> sum_row(int64_t h, const Term& term) {
  constexpr int width = lanes::width<T>;
  lanes::Vector<T> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * width <= h; i += 4 * width) {
    sums[0] += term(i, width);
    sums[1] += term(i + width, width);
    sums[2] += term(i + 2 * width, width);
    sums[3] += term(i + 3 * width, width);
  }
  for (; i + width <= h; i += width) sums[0] += term(i, width);
  if (i < h) sums[1] += term(i, h - i);
  return lanes::sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Two sums at once, of the vectors that term(i, count, first, second) writes.
template <typename T, typename Term>
MEGATRON_INLINE void sum_row_twice(int64_t h, const Term& term, lanes::accumulation_t<T>& first,
                                   lanes::accumulation_t<T>& second) {
  constexpr int width = lanes::width<T>;
  lanes::Vector<T> firsts[2] = {}, seconds[2] = {}, a, b;
  int64_t i = 0;
  for (; i + 2 * width <= h; i += 2 * width) {
    term(i, width, a, b);
    firsts[0] += a;
    seconds[0] += b;
    term(i + width, width, a, b);
    firsts[1] += a;
    seconds[1] += b;
  }
  for (; i < h; i += width) {
    term(i, h - i < width ? h - i : width, a, b);
    firsts[0] += a;
    seconds[0] += b;
  }
  first = lanes::sum_lanes(firsts[0] + firsts[1]);
  second = lanes::sum_lanes(seconds[0] + seconds[1]);
}

// 1 in the first `count` lanes, else 0.
template <typename T>
MEGATRON_INLINE lanes::Vector<T> lane_mask(int64_t count) {
  lanes::Vector<T> mask = {};
  for (int64_t i = 0; i < count; ++i) mask[i] = 1;
  return mask;
}

template <bool centred, typename T, typename A>
MEGATRON_INLINE void apply_row(const T* from, const A* weight, const A* bias, A mean, A rstd, T* to,
                               int64_t h) {
  lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
    auto value =
        (lanes::load<T>(from + i, count) - mean) * rstd * lanes::load<A>(weight + i, count);
    if constexpr (centred) value = value + lanes::load<A>(bias + i, count);
    lanes::store<T>(to + i, value, count);
  });
}

template <bool centred, typename T, typename A>
void forward_rows(const T* x, const A* weight, const A* bias, A eps, T* y, A* mean, A* rstd,
                  int64_t rows, int64_t h) {
  parallel_for(0, rows, row_grain(h), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = x + row * h;
      A row_mean = 0;
      if constexpr (centred) {
        row_mean =
            sum_row<T>(
                h, [&](int64_t i, int64_t count)
                       __attribute__((always_inline)) { return lanes::load<T>(from + i, count); }) /
            static_cast<A>(h);
        mean[row] = row_mean;
      }
      const A square = sum_row<T>(
                           h,
                           [&](int64_t i, int64_t count) __attribute__((always_inline)) {
                             auto value = lanes::load<T>(from + i, count) - row_mean;
                             if (centred && count != lanes::width<T>)
                               value = value * lane_mask<T>(count);
                             return value * value;
                           }) /
                       static_cast<A>(h);
      const A row_rstd = 1 / std::sqrt(square + eps);
      rstd[row] = row_rstd;
      apply_row<centred>(from, weight, bias, row_mean, row_rstd, y + row * h, h);
    }
  });
}

template <bool centred, typename T, typename A>
void apply_rows(const T* x, const A* weight, const A* bias, const A* mean, const A* rstd, T* y,
                int64_t rows, int64_t h) {
  parallel_for(0, rows, row_grain(h), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      apply_row<centred>(x + row * h, weight, bias, centred ? mean[row] : A(0), rstd[row],
                         y + row * h, h);
    }
  });
}

template <bool centred, bool recompute, typename T, typename A>
void backward_rows(const T* grad_y, const T* x, const A* weight, const A* bias, const A* mean,
                   const A* rstd, T* grad_x, T* y, A* weight_partials, A* bias_partials,
                   const RowBlocks& blocks, int64_t h) {
  parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      A* weight_sums = weight_partials + block * h;
      std::fill(weight_sums, weight_sums + h, A(0));
      A* bias_sums = centred ? bias_partials + block * h : nullptr;
      if (centred) std::fill(bias_sums, bias_sums + h, A(0));
      const int64_t begin = block * blocks.rows_per_block;
      const int64_t end = std::min(blocks.rows, begin + blocks.rows_per_block);
      for (int64_t row = begin; row < end; ++row) {
        const T* gradient = grad_y + row * h;
        const T* from = x + row * h;
        const A row_mean = centred ? mean[row] : A(0);
        const A row_rstd = rstd[row];
        // In the tail lanes the loaded gradient is zero, and so is every product with it.
        A gradient_sum = 0, projection = 0;
        sum_row_twice<T>(
            h,
            [&](int64_t i, int64_t count, lanes::Vector<T> & plain, lanes::Vector<T> & projected)
                __attribute__((always_inline)) {
                  plain = lanes::load<T>(gradient + i, count) * lanes::load<A>(weight + i, count);
                  projected = plain * ((lanes::load<T>(from + i, count) - row_mean) * row_rstd);
                },
            gradient_sum, projection);
        const A gradient_mean = centred ? gradient_sum / static_cast<A>(h) : A(0);
        projection /= static_cast<A>(h);
        lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
          const auto g = lanes::load<T>(gradient + i, count);
          const auto w = lanes::load<A>(weight + i, count);
          const auto normal = (lanes::load<T>(from + i, count) - row_mean) * row_rstd;
          lanes::store<T>(grad_x + row * h + i,
                          (g * w - gradient_mean - normal * projection) * row_rstd, count);
          lanes::store<A>(weight_sums + i, lanes::load<A>(weight_sums + i, count) + g * normal,
                          count);
          if constexpr (centred) {
            lanes::store<A>(bias_sums + i, lanes::load<A>(bias_sums + i, count) + g, count);
          }
          if constexpr (recompute) {
            auto value = normal * w;
            if constexpr (centred) value = value + lanes::load<A>(bias + i, count);
            lanes::store<T>(y + row * h + i, value, count);
          }
        });
      }
    }
  });
}

// Calls body(constant) with `value` as a constant.
template <typename Body>
MEGATRON_INLINE void with_constant(bool value, const Body& body) {
  if (value) {
    body(std::true_type());
  } else {
    body(std::false_type());
  }
}

}  // namespace

template <KernelLevel level, typename T, typename A>
void norm_forward(bool centred, const T* x, const A* weight, const A* bias, A eps, T* y, A* mean,
                  A* rstd, int64_t rows, int64_t h) {
  with_constant(centred, [&](auto layer) {
    forward_rows<layer.value>(x, weight, bias, eps, y, mean, rstd, rows, h);
  });
}

template <KernelLevel level, typename T, typename A>
void norm_apply(bool centred, const T* x, const A* weight, const A* bias, const A* mean,
                const A* rstd, T* y, int64_t rows, int64_t h) {
  with_constant(centred, [&](auto layer) {
    apply_rows<layer.value>(x, weight, bias, mean, rstd, y, rows, h);
  });
}

template <KernelLevel level, typename T, typename A>
void norm_backward(bool centred, const T* grad_y, const T* x, const A* weight, const A* bias,
                   const A* mean, const A* rstd, T* grad_x, T* y, A* weight_partials,
                   A* bias_partials, const RowBlocks& blocks, int64_t h) {
  with_constant(centred, [&](auto layer) {
    with_constant(y != nullptr, [&](auto recompute) {
      backward_rows<layer.value, recompute.value>(grad_y, x, weight, bias, mean, rstd, grad_x, y,
                                                  weight_partials, bias_partials, blocks, h);
    });
  });
}

#define MEGATRON_INSTANTIATE(T, A)                                                                \
  template void norm_forward<kKernelLevel>(bool, const T*, const A*, const A*, A, T*, A*, A*,     \
                                           int64_t, int64_t);                                     \
  template void norm_apply<kKernelLevel>(bool, const T*, const A*, const A*, const A*, const A*,  \
                                         T*, int64_t, int64_t);                                   \
  template void norm_backward<kKernelLevel>(bool, const T*, const T*, const A*, const A*,         \
                                            const A*, const A*, T*, T*, A*, A*, const RowBlocks&, \
                                            int64_t);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
MEGATRON_INSTANTIATE(c10::Half, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
