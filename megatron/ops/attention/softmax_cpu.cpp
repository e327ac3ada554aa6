// The masked softmax of attention scores: CPU kernels.
#include <algorithm>
#include <limits>

#include "megatron/ops/attention/softmax_kernels.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"

namespace megatron::kernels {

namespace {

// The fill value, rounded to the storage type.
template <typename T>
MEGATRON_INLINE lanes::accumulation_t<T> fill_value() {
  return static_cast<T>(static_cast<float>(kMaskedScore));
}

const bool* mask_row(const SoftmaxShape& shape, int64_t row) {
  if (shape.masked == nullptr) return nullptr;
  return shape.masked + row / (shape.n * shape.sq) * shape.mask_stride_b +
         row % shape.sq * shape.mask_stride_q;
}

// Returns the sink's probability.
template <typename T, typename A>
A softmax_row(T* row, int64_t keys, const KeyRange& visible, const bool* masked, const A* sink) {
  constexpr int width = lanes::width<T>;
  const auto [first, last] = visible;
  if (masked != nullptr) {
    for (int64_t i = first; i < last; ++i)
      row[i] = masked[i] ? static_cast<T>(fill_value<T>()) : row[i];
  }
  constexpr A lowest = -std::numeric_limits<A>::infinity();
  const int64_t hidden = keys - (last - first);
  lanes::Vector<T> largest = lanes::broadcast<T>(hidden > 0 ? fill_value<T>() : lowest);
  for (int64_t i = first; i < last; i += width) {
    const int64_t count = std::min<int64_t>(width, last - i);
    largest = lanes::maximum(lanes::load<T>(row + i, count, lowest), largest);
  }
  A maximum = lanes::max_lanes(largest);
  if (sink != nullptr) maximum = std::max(maximum, *sink);
  lanes::Vector<T> sums = {};
  for (int64_t i = first; i < last; i += width) {
    const int64_t count = std::min<int64_t>(width, last - i);
    sums += lanes::exp(lanes::load<T>(row + i, count, lowest) - maximum);
  }
  // Keys outside the range all have the fill value as their score.
  const A rest = hidden > 0 ? std::exp(fill_value<T>() - maximum) : A(0);
  const A sunk = sink != nullptr ? std::exp(*sink - maximum) : A(0);
  const A scale = 1 / (lanes::sum_lanes(sums) + rest * static_cast<A>(hidden) + sunk);
  lanes::for_each_vector<T>(last - first, [&](int64_t i, auto count) {
    T* at = row + first + i;
    lanes::store<T>(at, lanes::exp(lanes::load<T>(at, count) - maximum) * scale, count);
  });
  std::fill(row, row + first, static_cast<T>(rest * scale));
  std::fill(row + last, row + keys, static_cast<T>(rest * scale));
  return sunk * scale;
}

// Returns the sum of probability times gradient.
template <typename T, typename A>
A softmax_row_backward(const T* probs, T* grad, int64_t keys, const KeyRange& visible,
                       const bool* masked) {
  constexpr int width = lanes::width<T>;
  const auto [first, last] = visible;
  lanes::Vector<T> sums = {};
  for (int64_t i = 0; i < keys; i += width) {
    const int64_t count = std::min<int64_t>(width, keys - i);
    sums += lanes::load<T>(probs + i, count) * lanes::load<T>(grad + i, count);
  }
  const A projection = lanes::sum_lanes(sums);
  lanes::for_each_vector<T>(last - first, [&](int64_t i, auto count) {
    T* at = grad + first + i;
    lanes::store<T>(
        at, lanes::load<T>(probs + first + i, count) * (lanes::load<T>(at, count) - projection),
        count);
  });
  std::fill(grad, grad + first, T(0));
  std::fill(grad + last, grad + keys, T(0));
  if (masked != nullptr) {
    for (int64_t i = first; i < last; ++i) grad[i] = masked[i] ? T(0) : grad[i];
  }
  return projection;
}

}  // namespace

template <KernelLevel level, typename T>
void masked_softmax(const SoftmaxShape& shape, T* scores, const lanes::accumulation_t<T>* sink,
                    lanes::accumulation_t<T>* sink_probs) {
  using A = lanes::accumulation_t<T>;
  parallel_for(
      0, shape.b * shape.n * shape.sq, row_grain(shape.sk), [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          const A* logit = sink == nullptr ? nullptr : sink + row / shape.sq % shape.n;
          const A prob =
              softmax_row<T, A>(scores + row * shape.sk, shape.sk, shape.visible[row % shape.sq],
                                mask_row(shape, row), logit);
          if (sink_probs != nullptr) sink_probs[row] = prob;
        }
      });
}

template <KernelLevel level, typename T>
void masked_softmax_backward(const SoftmaxShape& shape, const T* probs, T* grad,
                             lanes::accumulation_t<T>* sink_probs) {
  using A = lanes::accumulation_t<T>;
  parallel_for(
      0, shape.b * shape.n * shape.sq, row_grain(shape.sk), [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          const A projection =
              softmax_row_backward<T, A>(probs + row * shape.sk, grad + row * shape.sk, shape.sk,
                                         shape.visible[row % shape.sq], mask_row(shape, row));
          if (sink_probs != nullptr) sink_probs[row] *= -projection;
        }
      });
}

#define MEGATRON_INSTANTIATE(T)                                                             \
  template void masked_softmax<kKernelLevel>(                                               \
      const SoftmaxShape&, T*, const lanes::accumulation_t<T>*, lanes::accumulation_t<T>*); \
  template void masked_softmax_backward<kKernelLevel>(const SoftmaxShape&, const T*, T*,    \
                                                      lanes::accumulation_t<T>*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
