#include "megatron/tokenizers/byte_pair_encoding.h"

#include <limits>
#include <queue>
#include <tuple>

#include "megatron/base/error.h"
#include "megatron/tokenizers/byte_alphabet.h"

namespace megatron {
namespace {

constexpr size_t kShortWord = 48;  // symbols; longer words use a heap

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

BytePairEncoding::BytePairEncoding(const std::unordered_map<std::string, int32_t>& vocabulary,
                                   const std::vector<std::pair<std::string, std::string>>& merges,
                                   Options options, const std::string& source)
    : options_(options) {
  const auto id_of = [&](const std::string& spelling, const std::string& left,
                         const std::string& right) {
    const auto found = vocabulary.find(spelling);
    check(
        found != vocabulary.end(),
        "Expected the merge '{} {}' of {} to join two tokens into a third, but '{}' is not in the "
        "vocabulary",
        left, right, source, spelling);
    return found->second;
  };
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const auto found = vocabulary.find(byte_alphabet()[byte]);
    byte_ids_[byte] = found == vocabulary.end() ? -1 : found->second;
  }
  check(merges.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()),
        "Expected fewer than 2^31 merges in {}, but got {}", source, merges.size());
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t left_id = id_of(left, left, right);
    const int32_t right_id = id_of(right, left, right);
    const int32_t merged_id = id_of(left + right, left, right);
    // The last of several equal pairs counts, as in Hugging Face's table.
    merges_.insert_or_assign(pair_key(left_id, right_id),
                             Merge{static_cast<int32_t>(rank), merged_id});
  }
  if (!options_.ignore_merges) return;
  for (const auto& [spelling, id] : vocabulary) {
    if (auto bytes = bytes_of_spelling(spelling)) words_.emplace(std::move(*bytes), id);
  }
}

const BytePairEncoding::Merge* BytePairEncoding::find_merge(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

int64_t BytePairEncoding::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  if (options_.ignore_merges) {
    if (const auto found = words_.find(std::string(word)); found != words_.end()) {
      ids.push_back(found->second);
      return 0;
    }
  }
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  int64_t left_out = 0;
  bool after_unknown = false;
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      symbols.push_back(id);
    } else if (!options_.unknown) {
      ++left_out;
    } else if (!after_unknown || !options_.fuse_unknown) {
      symbols.push_back(*options_.unknown);
    }
    after_unknown = id < 0;
  }
  if (symbols.size() <= kShortWord) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  return left_out;
}

// Repeatedly merges the pair of lowest rank, the leftmost first.
void BytePairEncoding::merge_short(std::vector<int32_t>& symbols) const {
  // ranks[i] and merged[i] belong to the pair that begins at i.
  constexpr int32_t kNone = std::numeric_limits<int32_t>::max();
  std::array<int32_t, kShortWord> ranks;
  std::array<int32_t, kShortWord> merged;
  const auto look_up = [&](size_t i) {
    const Merge* merge = find_merge(symbols[i], symbols[i + 1]);
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

// Same result as merge_short, by a heap over a linked list: O(n log n) for a word of n bytes.
void BytePairEncoding::merge_long(std::vector<int32_t>& symbols) const {
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
    if (const Merge* merge = find_merge(left, right)) heap.emplace(merge->rank, i, left, right);
  };
  for (size_t i = 0; i < count; ++i) offer(i);
  constexpr int32_t kGone = -1;
  while (!heap.empty()) {
    const auto [rank, place, left, right] = heap.top();
    heap.pop();
    // Skip a stale candidate: one of its symbols has since merged with another.
    if (symbols[place] != left || next[place] == end || symbols[next[place]] != right) continue;
    const size_t swallowed = next[place];
    symbols[place] = find_merge(left, right)->id;
    symbols[swallowed] = kGone;
    next[place] = next[swallowed];
    if (next[place] != end) previous[next[place]] = place;
    offer(place);
    offer(previous[place]);
  }
  std::erase(symbols, kGone);
}

}  // namespace megatron
