// The local pieces of the vocab-parallel cross-entropy: what one rank computes on its columns of
// the logits, or on some of them. The reductions between ranks and autograd are the caller's
// (tensor_parallel/).
//
// With x the logits times logit_scale, K = vocab_size and a' = label_smoothing * K / (K - 1):
//   log p_j = x_j - log sum_i exp(x_i)
//   loss    = -(1 - a') log p_target - a' / K sum_j log p_j
// as in Megatron's vocab_parallel_cross_entropy, but for the mean over j: K is the true size of the
// vocabulary, where Megatron averages over a rank's columns and padding, so that its loss depends
// on the layout.
//
// Shapes: t tokens, v_p columns. logits [t, v_p] fp32, fp64, bf16, fp16; statistics and losses [t]
// in accumulation_dtype(logits), in nats. Targets [t] int64 are ids of the whole vocabulary.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// Which part of the vocabulary the columns are: column j is token start + j. Columns from `valid`
// on pad the vocabulary and count as minus infinity.
struct VocabularyBlock {
  int64_t start = 0;
  int64_t valid = 0;
};

struct CrossEntropyParameters {
  int64_t vocab_size = 0;      // K, without padding
  double label_smoothing = 0;  // in [0, 1); above 0, K must be at least 2
  double logit_scale = 1;      // above 0 (MuP's output multiplier)

  // a' above.
  double smoothing() const;
  // Throws Error for values outside these bounds.
  void validate() const;
};

// What is known of each row from the columns seen so far.
struct CrossEntropyStatistics {
  at::Tensor row_max;  // [t] the largest x; minus infinity before the first column
  at::Tensor sums;     // [3, t], or [2, t] without smoothing: see below

  // Of no columns yet, for `rows` rows of logits of these options.
  CrossEntropyStatistics(int64_t rows, at::TensorOptions logits, const CrossEntropyParameters& of);
  CrossEntropyStatistics(at::Tensor row_max, at::Tensor sums);

  at::Tensor sum_exp() const { return sums.select(0, 0); }  // of exp(x - row_max)
  at::Tensor target_logit() const { return sums.select(0, 1); }
  at::Tensor logit_sum() const { return sums.size(0) > 2 ? sums.select(0, 2) : at::Tensor(); }
};

// Adds a block of columns to the statistics. Blocks come in any number; their order sets the
// rounding only.
void cross_entropy_accumulate(CrossEntropyStatistics& statistics, const at::Tensor& logits,
                              const VocabularyBlock& block, const at::Tensor& targets,
                              const CrossEntropyParameters& parameters);

// The loss [t] from the statistics of the whole vocabulary.
at::Tensor cross_entropy_loss(const CrossEntropyStatistics& statistics,
                              const CrossEntropyParameters& parameters);

// d loss / d logits * grad_loss, [t, v_p] in the logits' dtype; 0 in padding columns and where
// grad_loss is 0. The statistics are those of the whole vocabulary.
at::Tensor cross_entropy_grad(const at::Tensor& logits, const VocabularyBlock& block,
                              const CrossEntropyStatistics& statistics, const at::Tensor& targets,
                              const at::Tensor& grad_loss,
                              const CrossEntropyParameters& parameters);

// The same, written into `grad` ([t, v_p], contiguous), which may be `logits` itself: saves the
// memory of a second [t, v_p] tensor where the logits are not read again.
void cross_entropy_grad_into(at::Tensor& grad, const at::Tensor& logits,
                             const VocabularyBlock& block, const CrossEntropyStatistics& statistics,
                             const at::Tensor& targets, const at::Tensor& grad_loss,
                             const CrossEntropyParameters& parameters);

// The largest valid logit of each row and the lowest column that holds it. A NaN is never the
// largest; a row without a number above minus infinity gives column 0.
struct LargestLogits {
  at::Tensor value;   // [t], minus infinity where no column is valid
  at::Tensor column;  // [t] int64
};
LargestLogits largest_logits(const at::Tensor& logits, int64_t valid);

namespace reference {
void cross_entropy_accumulate(CrossEntropyStatistics& statistics, const at::Tensor& logits,
                              const VocabularyBlock& block, const at::Tensor& targets,
                              const CrossEntropyParameters& parameters);
at::Tensor cross_entropy_grad(const at::Tensor& logits, const VocabularyBlock& block,
                              const CrossEntropyStatistics& statistics, const at::Tensor& targets,
                              const at::Tensor& grad_loss,
                              const CrossEntropyParameters& parameters);
LargestLogits largest_logits(const at::Tensor& logits, int64_t valid);
}  // namespace reference

}  // namespace megatron
