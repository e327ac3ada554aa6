// One sequence's part in a step of the model: what a scheduler hands to a ModelRunner.
#pragma once

#include <cstdint>
#include <span>

namespace megatron {

// Tokens of a row whose logits a step returns.
enum class RowLogits {
  none,  // a chunk of a prompt that goes on
  last,  // the last token's: the next token is chosen from them
  all,   // every token's: log-probabilities of a prompt
};

// The spans must outlive the call that they are passed to.
struct StepRow {
  std::span<const int64_t> tokens;  // new tokens: one in decode, a chunk of the prompt in prefill
  int64_t position = 0;             // of tokens[0]; the cache holds positions [0, position)
  // Blocks of the paged cache, in order of positions: block i holds positions [i x block size,
  // (i + 1) x block size). They cover [0, position + tokens.size()).
  std::span<const int64_t> blocks;
  RowLogits logits = RowLogits::last;
  // Tokens of the prompt that a chunk belongs to, by which longrope and dynamic scaling choose
  // frequencies. 0: position + tokens.size().
  int64_t sequence_length = 0;
};

}  // namespace megatron
