// Moves tokens into rows sorted by expert and back (Megatron's permute, unpermute and
// sort_chunks_by_idxs), each one pass over memory in forward and in backward. Sums over a token's
// rows are taken in the order of the experts, in fp32 or wider, and rounded once; nothing depends on
// threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/grouped/permutation.h"

namespace megatron {

// x [tokens, h] -> [rows, h]; padding rows are 0. The gradient of a token is the sum over its rows.
at::Tensor permute(const at::Tensor& x, const ExpertPermutation& permutation);

// probs [tokens, choices] (e of a routing map, k of indices) -> [rows]; 0 in padding rows.
at::Tensor permute_probs(const at::Tensor& probs, const ExpertPermutation& permutation);

// rows [rows, h], weights [rows] or undefined -> [tokens, h]: the sum over each token's rows, times
// their weights; 0 for tokens without rows. Gradients: rows and weights.
at::Tensor unpermute(const at::Tensor& rows, const ExpertPermutation& permutation,
                     const at::Tensor& weights = {});

// x [rows, ...] consists of chunks of sizes[i] rows; returns the chunks in the order
// order[0], order[1], ... `sizes` and `order` are contiguous int64 [chunks] on the CPU; order is a
// permutation.
at::Tensor sort_chunks(const at::Tensor& x, const at::Tensor& sizes, const at::Tensor& order);

// The same functions composed of differentiable libtorch operators, for every device and dtype.
namespace unfused {
at::Tensor permute(const at::Tensor& x, const ExpertPermutation& permutation);
at::Tensor permute_probs(const at::Tensor& probs, const ExpertPermutation& permutation);
at::Tensor unpermute(const at::Tensor& rows, const ExpertPermutation& permutation,
                     const at::Tensor& weights);
at::Tensor sort_chunks(const at::Tensor& x, const at::Tensor& sizes, const at::Tensor& order);
}  // namespace unfused

}  // namespace megatron
