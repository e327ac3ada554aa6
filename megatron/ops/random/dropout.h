// Dropout whose mask is a function of the global element (seed, layer, site, sample, position,
// column), so that every parallel layout and every recomputation drops the same elements. No mask
// is saved.
//
// An element is kept with probability 1 - p and scaled by 1 / (1 - p). Its random word comes from
// Philox 4x32-10 with the key hash(seed, layer, site, sample ordinal). The four words of a Philox
// block belong to four columns that are 16 apart, which suits both SIMD lanes and warps: column c
// uses word (c % 64) / 16 of the counter (c / 64 * 16 + c % 16, position, head, 0). Columns and
// positions are below 2^32.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// Selects a stream of random numbers: `layer` is the global layer number, `site` the place in the
// layer.
struct DropoutKey {
  uint64_t seed = 0;
  int64_t layer = 0;
  int32_t site = 0;
};

// Maps local elements to the global batch. Both tensors are int64, contiguous, on the CPU.
struct DropoutIndex {
  at::Tensor sample_ordinals;  // [b] ordinals of the samples in the training run
  at::Tensor positions;        // [s_p] global position of each local one
};

// x [s_p,b,h] -> [s_p,b,h]. Throws Error unless 0 <= p < 1; p = 0 returns x itself.
at::Tensor dropout(const at::Tensor& x, double p, const DropoutKey& key, const DropoutIndex& index);

// residual + dropout(x + bias): x and residual [s_p,b,h], bias [h] or undefined -> [s_p,b,h]. One
// pass over memory forward and one backward.
at::Tensor bias_dropout_add(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual,
                            double p, const DropoutKey& key, const DropoutIndex& index);

// Dropout of attention probabilities [b,n_p,sq,sk]. `queries` maps the rows (positions: [sq]);
// columns are the global key positions 0..sk-1, heads the global heads
// head_offset..head_offset+n_p-1.
at::Tensor attention_dropout(const at::Tensor& probs, double p, const DropoutKey& key,
                             const DropoutIndex& queries, int64_t head_offset);

// The factors that dropout multiplies with (0 or 1 / (1 - p)), [s_p,b,h] fp64 on the CPU. Drawn one
// by one: for dtypes and devices without a kernel, and for tests.
at::Tensor dropout_factors(at::IntArrayRef shape, double p, const DropoutKey& key,
                           const DropoutIndex& index);
// The factors of attention_dropout, [b,n_p,sq,sk] fp64 on the CPU.
at::Tensor attention_dropout_factors(at::IntArrayRef shape, double p, const DropoutKey& key,
                                     const DropoutIndex& queries, int64_t head_offset);
}  // namespace megatron
