// The local part of the vocab-parallel cross-entropy: what a rank computes from its columns of the
// logits, all at once or in blocks. The caller reduces over ranks and defines autograd
// (tensor_parallel/).
//
// With x the logits times logit_scale, K = vocab_size and a' = label_smoothing * K / (K - 1):
//   log p_j = x_j - log sum_i exp(x_i)
//   loss    = -(1 - a') log p_target - a' / K sum_j log p_j
// as in Megatron's vocab_parallel_cross_entropy, except for the mean over j: it is taken over the K
// ids of the vocabulary. Megatron takes it over a rank's columns including padding, which makes the
// loss depend on the layout.
//
// Shapes: t tokens, v_p columns. logits [t, v_p] in fp32, fp64, bf16 or fp16; statistics and losses
// [t] in accumulation_dtype(logits), losses in nats; targets [t] int64, global ids.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// Maps columns to ids: column j is id start + j. Columns from `valid` on are padding of the
// vocabulary; their logits count as minus infinity.
struct VocabularyBlock {
  int64_t start = 0;
  int64_t valid = 0;
};

struct CrossEntropyParameters {
  int64_t vocab_size = 0;      // K, without padding
  double label_smoothing = 0;  // in [0, 1); above 0, K must be at least 2
  double logit_scale = 1;      // above 0 (MuP's output multiplier)

  // a' in the formula above.
  double smoothing() const;
  // Throws Error if a value is out of bounds.
  void validate() const;
};

// Running statistics of each row over the columns accumulated so far.
struct CrossEntropyStatistics {
  at::Tensor row_max;  // [t] the largest x; minus infinity before the first column
  at::Tensor sums;     // [3, t], or [2, t] without smoothing: the rows named below

  // Statistics of no columns, for `rows` rows of logits with these options.
  CrossEntropyStatistics(int64_t rows, at::TensorOptions logits,
                         const CrossEntropyParameters& parameters);
  CrossEntropyStatistics(at::Tensor row_max, at::Tensor sums);

  at::Tensor sum_exp() const { return sums.select(0, 0); }  // of exp(x - row_max)
  at::Tensor target_logit() const { return sums.select(0, 1); }
  at::Tensor logit_sum() const { return sums.size(0) > 2 ? sums.select(0, 2) : at::Tensor(); }
};

// Adds a block of columns to the statistics. The division into blocks and their order affect the
// rounding only.
void cross_entropy_accumulate(CrossEntropyStatistics& statistics, const at::Tensor& logits,
                              const VocabularyBlock& block, const at::Tensor& targets,
                              const CrossEntropyParameters& parameters);

// The loss [t], given the statistics of all columns of all ranks.
at::Tensor cross_entropy_loss(const CrossEntropyStatistics& statistics,
                              const CrossEntropyParameters& parameters);

// grad_loss [t] * d loss / d logits -> [t, v_p] in the logits' dtype, given the statistics of all
// columns of all ranks. 0 in padding columns and where grad_loss is 0.
at::Tensor cross_entropy_grad(const at::Tensor& logits, const VocabularyBlock& block,
                              const CrossEntropyStatistics& statistics, const at::Tensor& targets,
                              const at::Tensor& grad_loss,
                              const CrossEntropyParameters& parameters);

// Writes to `grad` ([t, v_p], contiguous), which may be `logits` itself: that saves a second
// [t, v_p] tensor if the logits are not read again.
void cross_entropy_grad_out(at::Tensor& grad, const at::Tensor& logits,
                            const VocabularyBlock& block, const CrossEntropyStatistics& statistics,
                            const at::Tensor& targets, const at::Tensor& grad_loss,
                            const CrossEntropyParameters& parameters);

// The largest valid logit of each row and the lowest column that holds it. NaN is never the
// largest. A row with no logit above minus infinity gives column 0.
struct LargestLogits {
  at::Tensor value;   // [t], minus infinity if no column is valid
  at::Tensor column;  // [t] int64
};
LargestLogits largest_logits(const at::Tensor& logits, int64_t valid);

// The same functions composed of libtorch operators, for devices without a kernel.
namespace unfused {
void cross_entropy_accumulate(CrossEntropyStatistics& statistics, const at::Tensor& logits,
                              const VocabularyBlock& block, const at::Tensor& targets,
                              const CrossEntropyParameters& parameters);
at::Tensor cross_entropy_grad(const at::Tensor& logits, const VocabularyBlock& block,
                              const CrossEntropyStatistics& statistics, const at::Tensor& targets,
                              const at::Tensor& grad_loss,
                              const CrossEntropyParameters& parameters);
LargestLogits largest_logits(const at::Tensor& logits, int64_t valid);
}  // namespace unfused

}  // namespace megatron
