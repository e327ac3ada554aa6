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

// 1 in the first `count` lanes, else 0.
template <typename T>
MEGATRON_INLINE lanes::Vector<T> lane_mask(int64_t count) {
  lanes::Vector<T> mask = {};
  for (int64_t i = 0; i < count; ++i) mask[i] = 1;
  return mask;
}

template <bool centred, typename T, typename A>
void forward_rows(const T* x, const A* weight, const A* bias, A eps, T* y, A* mean, A* rstd,
                  int64_t rows, int64_t h) {
  parallel_for(0, rows, row_grain(h), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = x + row * h;
      T* to = y + row * h;
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
      lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
        auto value = (lanes::load<T>(from + i, count) - row_mean) * row_rstd *
                     lanes::load<A>(weight + i, count);
        if constexpr (centred) value = value + lanes::load<A>(bias + i, count);
        lanes::store<T>(to + i, value, count);
      });
    }
  });
}

template <bool centred, typename T, typename A>
void backward_rows(const T* grad_y, const T* x, const A* weight, const A* mean, const A* rstd,
                   T* grad_x, A* weight_partials, A* bias_partials, const RowBlocks& blocks,
                   int64_t h) {
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
        A gradient_mean = 0;
        if constexpr (centred) {
          gradient_mean =
              sum_row<T>(
                  h,
                  [&](int64_t i, int64_t count) __attribute__((always_inline)) {
                    return lanes::load<T>(gradient + i, count) * lanes::load<A>(weight + i, count);
                  }) /
              static_cast<A>(h);
        }
        const A projection = sum_row<T>(
                                 h,
                                 [&](int64_t i, int64_t count) __attribute__((always_inline)) {
                                   return lanes::load<T>(gradient + i, count) *
                                          lanes::load<A>(weight + i, count) *
                                          ((lanes::load<T>(from + i, count) - row_mean) * row_rstd);
                                 }) /
                             static_cast<A>(h);
        lanes::for_each_vector<T>(h, [&](int64_t i, auto count) {
          const auto g = lanes::load<T>(gradient + i, count);
          const auto normal = (lanes::load<T>(from + i, count) - row_mean) * row_rstd;
          lanes::store<T>(
              grad_x + row * h + i,
              (g * lanes::load<A>(weight + i, count) - gradient_mean - normal * projection) *
                  row_rstd,
              count);
          lanes::store<A>(weight_sums + i, lanes::load<A>(weight_sums + i, count) + g * normal,
                          count);
          if constexpr (centred) {
            lanes::store<A>(bias_sums + i, lanes::load<A>(bias_sums + i, count) + g, count);
          }
        });
      }
    }
  });
}

}  // namespace

template <KernelLevel level, typename T, typename A>
void norm_forward(bool centred, const T* x, const A* weight, const A* bias, A eps, T* y, A* mean,
                  A* rstd, int64_t rows, int64_t h) {
  if (centred) {
    forward_rows<true>(x, weight, bias, eps, y, mean, rstd, rows, h);
  } else {
    forward_rows<false>(x, weight, bias, eps, y, mean, rstd, rows, h);
  }
}

template <KernelLevel level, typename T, typename A>
void norm_backward(bool centred, const T* grad_y, const T* x, const A* weight, const A* mean,
                   const A* rstd, T* grad_x, A* weight_partials, A* bias_partials,
                   const RowBlocks& blocks, int64_t h) {
  if (centred) {
    backward_rows<true>(grad_y, x, weight, mean, rstd, grad_x, weight_partials, bias_partials,
                        blocks, h);
  } else {
    backward_rows<false>(grad_y, x, weight, mean, rstd, grad_x, weight_partials, bias_partials,
                         blocks, h);
  }
}

#define MEGATRON_INSTANTIATE(T, A)                                                            \
  template void norm_forward<kKernelLevel>(bool, const T*, const A*, const A*, A, T*, A*, A*, \
                                           int64_t, int64_t);                                 \
  template void norm_backward<kKernelLevel>(bool, const T*, const T*, const A*, const A*,     \
                                            const A*, T*, A*, A*, const RowBlocks&, int64_t);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
