// The cross-entropy kernels' interface: plain pointers, T one of float, double, BFloat16, A its
// accumulation type. Rows of logits lie `stride` elements apart.
#pragma once

#include <cstdint>

namespace megatron::kernels {

struct LogitShape {
  int64_t rows;
  int64_t columns;
  int64_t valid_columns;
  int64_t stride;
  int64_t vocab_start;
};

template <typename T, typename A>
void cross_entropy_max(const LogitShape& shape, const T* logits, A* row_max);

// row_max: read, or where `find_max` is true found first and written.
template <typename T, typename A>
void cross_entropy_sums(const LogitShape& shape, bool find_max, const T* logits, A* row_max,
                        const int64_t* targets, A* sum_exp, A* target_logit);

// grad [rows, columns], contiguous; may be logits.
template <typename T, typename A>
void cross_entropy_gradient(const LogitShape& shape, const T* logits, const A* row_max,
                            const A* sum_exp, const int64_t* targets, const A* grad_loss, T* grad);

}  // namespace megatron::kernels
