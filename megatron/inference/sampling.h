// Choosing the next token from logits.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

struct SamplingParams {
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // keeps the k most likely tokens; 0: all
  // Keeps the most likely tokens, up to the first whose predecessors sum to more than p; 0: all.
  double top_p = 0.0;
  uint64_t seed = 0;
};

// logits [b, v_padded] -> token ids [b] int64 below `vocab_size`; the columns from there on pad the
// vocabulary. `known_ids` [up to vocab_size] bool restricts the choice further: ids that are false
// or beyond its end are never chosen. The order is Megatron's: temperature, then top-k or top-p,
// softmax, draw. The draw is a function of the seed, the row and `position`, so it does not depend
// on the layout. Throws Error where both top_k and top_p are set, and where no id is known.
at::Tensor sample_tokens(const at::Tensor& logits, int64_t vocab_size, const SamplingParams& params,
                         int64_t position, const at::Tensor& known_ids = {});

}  // namespace megatron
