// Drafts for speculative decoding from the sequence itself: where its last tokens occurred before,
// what followed them then is proposed now (prompt lookup).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace megatron {

inline constexpr int64_t kLongestNgram = 3, kShortestNgram = 2;

// Up to `most` tokens that may follow `tokens`: those after the latest earlier occurrence of its
// last kLongestNgram tokens, or of fewer, down to kShortestNgram. Empty without one.
std::vector<int64_t> propose_by_ngram(std::span<const int64_t> tokens, int64_t most);

}  // namespace megatron
