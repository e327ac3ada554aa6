// Dropout whose mask is a function of the global element (seed, layer, site, sample, position,
// column), so that every layout of ranks and every recomputation drops the same elements. No mask
// is saved.
//
// An element is kept with probability 1 - p and scaled by 1 / (1 - p). Its random word comes from
// Philox 4x32-10 with the key hash(seed, layer, site, sample ordinal). A block of four words serves
// four columns that lie 16 apart, which suits SIMD lanes and warps alike: column c takes word (c %
// 64) / 16 of the counter (c / 64 * 16 + c % 16, position, head, 0). Columns and positions are
// below 2^32.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// Which stream of random numbers: the layer's global number and the place inside the layer.
struct DropoutKey {
  uint64_t seed = 0;
  int64_t layer = 0;
  int32_t site = 0;
};

// Where the local elements lie in the global batch. Both tensors are int64, contiguous, on the CPU.
struct DropoutIndex {
  at::Tensor sample_ordinals;  // [b] the samples' ordinals in the training run
  at::Tensor positions;        // [s_p] local to global position
};

// x [s_p,b,h] -> [s_p,b,h]. 0 <= p < 1, else Error; p = 0 returns x itself.
at::Tensor dropout(const at::Tensor& x, double p, const DropoutKey& key, const DropoutIndex& index);

// residual + dropout(x + bias): x and residual [s_p,b,h], bias [h] or undefined -> [s_p,b,h]. One
// pass forward, one backward.
at::Tensor bias_dropout_add(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual,
                            double p, const DropoutKey& key, const DropoutIndex& index);

// probs [b,n_p,sq,sk] -> the same shape. Rows are the queries of `queries` (positions: [sq]),
// columns the global key positions 0..sk-1, heads the global heads head_offset..head_offset+n_p-1.
at::Tensor attention_dropout(const at::Tensor& probs, double p, const DropoutKey& key,
                             const DropoutIndex& queries, int64_t head_offset);

namespace reference {
// The factors that dropout multiplies with (0 or 1 / (1 - p)), drawn one by one: [s_p,b,h] fp64.
at::Tensor dropout_factors(at::IntArrayRef shape, double p, const DropoutKey& key,
                           const DropoutIndex& index);
// The same for attention_dropout: [b,n_p,sq,sk] fp64.
at::Tensor attention_dropout_factors(at::IntArrayRef shape, double p, const DropoutKey& key,
                                     const DropoutIndex& queries, int64_t head_offset);
}  // namespace reference

}  // namespace megatron
