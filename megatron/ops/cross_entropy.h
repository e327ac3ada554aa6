// The local pieces of the vocab-parallel cross-entropy (Megatron's vocab_parallel_cross_entropy):
// what one rank computes on its columns of the logits. The reductions between ranks and autograd
// are the caller's (tensor_parallel/).
//
// Shapes: t tokens, v_p this rank's columns. logits [t, v_p] fp32, fp64, bf16; statistics [t] in
// accumulation_dtype(logits). Columns from `valid_columns` (0..v_p) on pad the vocabulary: they
// count as minus infinity. Targets are global ids; this rank holds
// vocab_start..vocab_start+valid_columns-1.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// row_max (assigned): the largest valid logit of each row; minus infinity where no column is valid.
void cross_entropy_row_max(const at::Tensor& logits, int64_t valid_columns, at::Tensor& row_max);

// sum_exp (assigned): sum over the valid columns of exp(logit - row_max), row_max being the maximum
// over all ranks. target_logit (assigned): logit[target] - row_max, or 0 where the target is not
// held here.
void cross_entropy_row_sums(const at::Tensor& logits, int64_t valid_columns,
                            const at::Tensor& row_max, const at::Tensor& targets,
                            int64_t vocab_start, at::Tensor& sum_exp, at::Tensor& target_logit);

// All three on one rank, with one read of the logits from memory. loss = log(sum_exp) -
// target_logit.
void cross_entropy_rows(const at::Tensor& logits, int64_t valid_columns, const at::Tensor& targets,
                        int64_t vocab_start, at::Tensor& row_max, at::Tensor& sum_exp,
                        at::Tensor& target_logit);

// grad_loss * (softmax - one_hot(target)) in the logits' dtype, [t, v_p]; 0 in padding columns.
// row_max and sum_exp are those over all ranks; grad_loss [t] is of their dtype.
at::Tensor cross_entropy_grad(const at::Tensor& logits, int64_t valid_columns,
                              const at::Tensor& row_max, const at::Tensor& sum_exp,
                              const at::Tensor& targets, int64_t vocab_start,
                              const at::Tensor& grad_loss);

// The same, written into `grad` ([t, v_p], contiguous), which may be `logits` itself: saves the
// memory of a second [t, v_p] tensor where the logits are not read again.
void cross_entropy_grad_into(at::Tensor& grad, const at::Tensor& logits, int64_t valid_columns,
                             const at::Tensor& row_max, const at::Tensor& sum_exp,
                             const at::Tensor& targets, int64_t vocab_start,
                             const at::Tensor& grad_loss);

namespace reference {
void cross_entropy_rows(const at::Tensor& logits, int64_t valid_columns, const at::Tensor& targets,
                        int64_t vocab_start, at::Tensor& row_max, at::Tensor& sum_exp,
                        at::Tensor& target_logit);
void cross_entropy_row_max(const at::Tensor& logits, int64_t valid_columns, at::Tensor& row_max);
void cross_entropy_row_sums(const at::Tensor& logits, int64_t valid_columns,
                            const at::Tensor& row_max, const at::Tensor& targets,
                            int64_t vocab_start, at::Tensor& sum_exp, at::Tensor& target_logit);
at::Tensor cross_entropy_grad(const at::Tensor& logits, int64_t valid_columns,
                              const at::Tensor& row_max, const at::Tensor& sum_exp,
                              const at::Tensor& targets, int64_t vocab_start,
                              const at::Tensor& grad_loss);
}  // namespace reference

}  // namespace megatron
