#include "megatron/inference/ngram_lookup.h"

#include <algorithm>

namespace megatron {

std::vector<int64_t> propose_by_ngram(std::span<const int64_t> tokens, int64_t most) {
  const auto size = static_cast<int64_t>(tokens.size());
  if (most <= 0) return {};
  for (int64_t n = kLongestNgram; n >= kShortestNgram; --n) {
    if (size <= n) continue;
    const auto ngram = tokens.last(static_cast<size_t>(n));
    for (int64_t first = size - n - 1; first >= 0; --first) {
      if (!std::ranges::equal(tokens.subspan(first, n), ngram)) continue;
      const auto following = tokens.subspan(first + n);
      const auto count = std::min<int64_t>(most, std::ssize(following));
      return {following.begin(), following.begin() + count};
    }
  }
  return {};
}

}  // namespace megatron
