// The cross-entropy kernels' interface: plain pointers, T one of float, double, BFloat16, Half, A
// its accumulation type.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

struct LogitShape {
  int64_t rows;
  int64_t columns;
  int64_t valid_columns;
  int64_t stride;  // elements from one row of logits to the next
  int64_t vocab_start;
};

// Running statistics of each row. logit_sum may be null.
template <typename A>
struct LogitStatistics {
  A* row_max;
  A* sum_exp;
  A* target_logit;
  A* logit_sum;
};

// Adds the columns of logits * scale to the statistics.
template <KernelLevel level, typename T, typename A>
void cross_entropy_accumulate(const LogitShape& shape, const T* logits, A scale,
                              const int64_t* targets, const LogitStatistics<A>& statistics);

// The smoothed target distribution: `even_weight` at every id, plus `target_weight` at the target.
template <typename A>
struct TargetDistribution {
  A target_weight;
  A even_weight;
};

// Writes grad [rows, columns], contiguous; it may be `logits`.
template <KernelLevel level, typename T, typename A>
void cross_entropy_gradient(const LogitShape& shape, const T* logits, A scale, const A* row_max,
                            const A* sum_exp, const int64_t* targets,
                            const TargetDistribution<A>& distribution, const A* grad_loss, T* grad);

// The largest valid logit of each row (minus infinity if there is none) and its first column.
template <KernelLevel level, typename T, typename A>
void logit_argmax(const LogitShape& shape, const T* logits, A* largest, int64_t* column);

}  // namespace megatron::kernels
