// The masked softmax of attention scores: CPU kernels.
#include <algorithm>
#include <limits>

#include "megatron/ops/parallel_for.h"
#include "megatron/ops/softmax_kernels.h"
#include "megatron/ops/vector_math.h"

namespace megatron::kernels {

namespace {

// Megatron's fill, as the storage type holds it: bf16 rounds it, alike for every masked key.
template <typename T>
inline const lanes::accumulation_t<T> kMaskedScore =
    static_cast<lanes::accumulation_t<T>>(static_cast<T>(-10000.0f));

// The number of keys that the row's query may see if no mask says otherwise.
int64_t visible_keys(const SoftmaxShape& shape, int64_t query) {
  if (!shape.causal) return shape.sk;
  return std::clamp<int64_t>(query + shape.query_offset + 1, 0, shape.sk);
}

const bool* mask_row(const SoftmaxShape& shape, int64_t row) {
  if (shape.masked == nullptr) return nullptr;
  return shape.masked + row / (shape.n * shape.sq) * shape.mask_stride_b +
         row % shape.sq * shape.mask_stride_q;
}

template <typename T, typename A>
void softmax_row(T* row, int64_t keys, int64_t visible, const bool* masked) {
  constexpr int width = lanes::width<T>;
  if (masked != nullptr) {
    for (int64_t i = 0; i < visible; ++i)
      row[i] = masked[i] ? static_cast<T>(kMaskedScore<T>) : row[i];
  }
  constexpr A lowest = -std::numeric_limits<A>::infinity();
  lanes::Vector<T> largest = lanes::broadcast<T>(visible < keys ? kMaskedScore<T> : lowest);
  for (int64_t i = 0; i < visible; i += width) {
    const int64_t count = std::min<int64_t>(width, visible - i);
    largest = lanes::maximum(lanes::load<T>(row + i, count, lowest), largest);
  }
  const A maximum = lanes::max_lanes(largest);
  lanes::Vector<T> sums = {};
  for (int64_t i = 0; i < visible; i += width) {
    const int64_t count = std::min<int64_t>(width, visible - i);
    sums += lanes::exp(lanes::load<T>(row + i, count, lowest) - maximum);
  }
  // The keys beyond the visible ones all have the masked score.
  const A rest = visible < keys ? std::exp(kMaskedScore<T> - maximum) : A(0);
  const A scale = 1 / (lanes::sum_lanes(sums) + rest * static_cast<A>(keys - visible));
  lanes::for_each_vector<T>(visible, [&](int64_t i, auto count) {
    lanes::store<T>(row + i, lanes::exp(lanes::load<T>(row + i, count) - maximum) * scale, count);
  });
  std::fill(row + visible, row + keys, static_cast<T>(rest * scale));
}

template <typename T, typename A>
void softmax_row_backward(const T* probs, T* grad, int64_t keys, int64_t visible,
                          const bool* masked) {
  constexpr int width = lanes::width<T>;
  lanes::Vector<T> sums = {};
  for (int64_t i = 0; i < keys; i += width) {
    const int64_t count = std::min<int64_t>(width, keys - i);
    sums += lanes::load<T>(probs + i, count) * lanes::load<T>(grad + i, count);
  }
  const A projection = lanes::sum_lanes(sums);
  lanes::for_each_vector<T>(visible, [&](int64_t i, auto count) {
    lanes::store<T>(
        grad + i, lanes::load<T>(probs + i, count) * (lanes::load<T>(grad + i, count) - projection),
        count);
  });
  std::fill(grad + visible, grad + keys, T(0));
  if (masked != nullptr) {
    for (int64_t i = 0; i < visible; ++i) grad[i] = masked[i] ? T(0) : grad[i];
  }
}

}  // namespace

template <typename T>
void masked_softmax(const SoftmaxShape& shape, T* scores) {
  using A = lanes::accumulation_t<T>;
  parallel_for(0, shape.b * shape.n * shape.sq, row_grain(shape.sk),
               [&](int64_t first, int64_t last) {
                 for (int64_t row = first; row < last; ++row) {
                   softmax_row<T, A>(scores + row * shape.sk, shape.sk,
                                     visible_keys(shape, row % shape.sq), mask_row(shape, row));
                 }
               });
}

template <typename T>
void masked_softmax_backward(const SoftmaxShape& shape, const T* probs, T* grad) {
  using A = lanes::accumulation_t<T>;
  parallel_for(
      0, shape.b * shape.n * shape.sq, row_grain(shape.sk), [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          softmax_row_backward<T, A>(probs + row * shape.sk, grad + row * shape.sk, shape.sk,
                                     visible_keys(shape, row % shape.sq), mask_row(shape, row));
        }
      });
}

#define MEGATRON_INSTANTIATE(T)                          \
  template void masked_softmax(const SoftmaxShape&, T*); \
  template void masked_softmax_backward(const SoftmaxShape&, const T*, T*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
