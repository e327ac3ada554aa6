#include "megatron/tokenizers/models/merge_table.h"

#include <array>
#include <limits>
#include <queue>
#include <tuple>

namespace megatron {
namespace {

constexpr size_t kShortWord = 48;  // symbols; longer words use a heap

}  // namespace

void MergeTable::apply(std::vector<int32_t>& symbols) const {
  if (symbols.size() <= kShortWord) {
    apply_to_short(symbols);
  } else {
    apply_to_long(symbols);
  }
}

void MergeTable::apply_to_short(std::vector<int32_t>& symbols) const {
  // ranks[i] and merged[i] belong to the pair that begins at i.
  constexpr int32_t kNone = std::numeric_limits<int32_t>::max();
  std::array<int32_t, kShortWord> ranks;
  std::array<int32_t, kShortWord> merged;
  const auto look_up = [&](size_t i) {
    const Merge* merge = find(symbols[i], symbols[i + 1]);
    ranks[i] = merge != nullptr ? merge->rank : kNone;
    merged[i] = merge != nullptr ? merge->id : -1;
  };
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNone) break;
    symbols[best] = merged[best];
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --count;
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(count);
}

// Same result as apply_to_short, by a heap over a linked list: O(n log n) for a word of n bytes.
void MergeTable::apply_to_long(std::vector<int32_t>& symbols) const {
  const size_t count = symbols.size();
  const size_t end = count;  // no neighbour
  std::vector<size_t> previous(count);
  std::vector<size_t> next(count);
  for (size_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? end : i - 1;
    next[i] = i + 1;
  }
  using Candidate = std::tuple<int32_t, size_t, int32_t, int32_t>;  // rank, place, left, right
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](size_t i) {
    if (i == end || next[i] == end) return;
    const int32_t left = symbols[i];
    const int32_t right = symbols[next[i]];
    if (const Merge* merge = find(left, right)) heap.emplace(merge->rank, i, left, right);
  };
  for (size_t i = 0; i < count; ++i) offer(i);
  constexpr int32_t kGone = -1;
  while (!heap.empty()) {
    const auto [rank, place, left, right] = heap.top();
    heap.pop();
    // Skip a stale candidate: one of its symbols has since merged with another.
    if (symbols[place] != left || next[place] == end || symbols[next[place]] != right) continue;
    const size_t swallowed = next[place];
    symbols[place] = find(left, right)->id;
    symbols[swallowed] = kGone;
    next[place] = next[swallowed];
    if (next[place] != end) previous[next[place]] = place;
    offer(place);
    offer(previous[place]);
  }
  std::erase(symbols, kGone);
}

}  // namespace megatron
