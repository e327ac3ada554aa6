// CPU kernels of dropout; masks are drawn where they are used.
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/random/dropout_kernels.h"
#include "megatron/ops/random/dropout_lanes.h"

namespace megatron::kernels {

namespace {

// Calls body(i, count, drop) for the vectors of one row; drop(value) applies the mask to the lanes
// from column i on.
template <typename T, typename Body>
MEGATRON_INLINE void for_each_masked(const DropoutRows& rows, const RowKey& key, const Body& body) {
  const auto scale = lanes::broadcast<T>(static_cast<lanes::accumulation_t<T>>(rows.scale));
  const uint32_t threshold = rows.threshold;
  for (int64_t first = 0; first < rows.columns; first += 64) {
    const WordGroup group = draw_group(key, first / 64);
    const int64_t remaining = rows.columns - first;
    for (int j = 0; j < 4 && 16 * j < remaining; ++j) {
      if constexpr (lanes::width<T> == 16) {
        const auto drop = [&](auto value) __attribute__((always_inline)) {
          return keep(group.word[j], threshold, value, scale);
        };
        const int64_t count = remaining - 16 * j;
        if (count >= 16) {
          body(first + 16 * j, std::integral_constant<int64_t, 16>(), drop);
        } else {
          body(first + 16 * j, count, drop);
        }
      } else {
        uint32_t words[16];
        std::memcpy(words, &group.word[j], sizeof(words));
        for (int half = 0; half < 16 && 16 * j + half < remaining; half += 8) {
          const auto drop = [&](auto value) __attribute__((always_inline)) {
            return keep(words + half, threshold, value, scale);
          };
          const int64_t count = std::min<int64_t>(8, remaining - 16 * j - half);
          body(first + 16 * j + half, count, drop);
        }
      }
    }
  }
}

}  // namespace

template <KernelLevel level, typename T>
void dropout_rows(const DropoutRows& rows, const T* x, T* y) {
  parallel_for(0, rows.row_count(), row_grain(rows.columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from = x + row * rows.columns;
      T* to = y + row * rows.columns;
      for_each_masked<T>(rows, row_key(rows, row), [&](int64_t i, auto count, const auto& drop) {
        lanes::store<T>(to + i, drop(lanes::load<T>(from + i, count)), count);
      });
    }
  });
}

template <KernelLevel level, typename T>
void bias_dropout_add_forward(const DropoutRows& rows, const T* x, const T* bias, const T* residual,
                              T* y) {
  parallel_for(0, rows.row_count(), row_grain(rows.columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t start = row * rows.columns;
      const auto body = [&](int64_t i, auto count, const auto& drop) {
        auto value = lanes::load<T>(x + start + i, count);
        if (bias != nullptr) value = value + lanes::load<T>(bias + i, count);
        lanes::store<T>(y + start + i, lanes::load<T>(residual + start + i, count) + drop(value),
                        count);
      };
      if (rows.threshold == 0) {
        lanes::for_each_vector<T>(rows.columns, [&](int64_t i, auto count) {
          body(i, count, [](auto value) { return value; });
        });
      } else {
        for_each_masked<T>(rows, row_key(rows, row), body);
      }
    }
  });
}

template <KernelLevel level, typename T, typename A>
void bias_dropout_add_backward(const DropoutRows& rows, const T* grad_y, T* grad_x, A* partials,
                               const RowBlocks& blocks) {
  const int64_t columns = rows.columns;
  parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      A* sums = partials == nullptr ? nullptr : partials + block * columns;
      if (sums != nullptr) std::fill(sums, sums + columns, A(0));
      const int64_t begin = block * blocks.rows_per_block;
      const int64_t end = std::min(blocks.rows, begin + blocks.rows_per_block);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t start = row * columns;
        for_each_masked<T>(rows, row_key(rows, row), [&](int64_t i, auto count, const auto& drop) {
          const auto gradient = drop(lanes::load<T>(grad_y + start + i, count));
          lanes::store<T>(grad_x + start + i, gradient, count);
          if (sums != nullptr) {
            lanes::store<A>(sums + i, lanes::load<A>(sums + i, count) + gradient, count);
          }
        });
      }
    }
  });
}

#define MEGATRON_INSTANTIATE(T, A)                                                             \
  template void dropout_rows<kKernelLevel>(const DropoutRows&, const T*, T*);                  \
  template void bias_dropout_add_forward<kKernelLevel>(const DropoutRows&, const T*, const T*, \
                                                       const T*, T*);                          \
  template void bias_dropout_add_backward<kKernelLevel>(const DropoutRows&, const T*, T*, A*,  \
                                                        const RowBlocks&);
MEGATRON_INSTANTIATE(float, float)
MEGATRON_INSTANTIATE(double, double)
MEGATRON_INSTANTIATE(c10::BFloat16, float)
MEGATRON_INSTANTIATE(c10::Half, float)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
