// Choosing the next token from logits.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

struct SamplingParams {
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // keeps the k likeliest; 0: all
  double top_p =
      0.0;  // keeps the likeliest whose probabilities before them sum to at most p; 0: all
  uint64_t seed = 0;
};

// logits [b, v] -> token ids [b] int64 below `vocab_size` (columns from there on pad the
// vocabulary). Order as Megatron's: temperature, then top-k or top-p, softmax, a draw. The draw is
// a function of the seed, the row and `position`, so it does not depend on the layout. Throws Error
// where top_k and top_p are both given.
at::Tensor sample_tokens(const at::Tensor& logits, int64_t vocab_size, const SamplingParams& params,
                         int64_t position);

}  // namespace megatron
