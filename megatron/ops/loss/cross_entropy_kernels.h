// The cross-entropy kernels' interface: plain pointers, T one of float, double, BFloat16, Half, A
// its accumulation type. Rows of logits lie `stride` elements apart.
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

// Running statistics of each row; logit_sum may be null.
template <typename A>
struct LogitStatistics {
  A* row_max;
  A* sum_exp;
  A* target_logit;
  A* logit_sum;
};

// Adds these columns, scaled by `scale`, to the statistics.
template <typename T, typename A>
void cross_entropy_accumulate(const LogitShape& shape, const T* logits, A scale,
                              const int64_t* targets, const LogitStatistics<A>& statistics);

// The distribution that the softmax is compared with: `target_weight` at the target, `even_weight`
// added everywhere.
template <typename A>
struct TargetDistribution {
  A target_weight;
  A even_weight;
};

// grad [rows, columns], contiguous; may be logits.
template <typename T, typename A>
void cross_entropy_gradient(const LogitShape& shape, const T* logits, A scale, const A* row_max,
                            const A* sum_exp, const int64_t* targets,
                            const TargetDistribution<A>& wanted, const A* grad_loss, T* grad);

// The largest valid logit of each row (minus infinity where there is none) and its first column.
template <typename T, typename A>
void logit_argmax(const LogitShape& shape, const T* logits, A* largest, int64_t* column);

}  // namespace megatron::kernels
