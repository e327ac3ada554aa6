#include "megatron/tokenizers/models/byte_pair_encoding.h"

#include <limits>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/byte_alphabet.h"

namespace megatron {

void add_merge(MergeTable& table, const StringMap<int32_t>& vocabulary, const std::string& left,
               const std::string& right, size_t skipped, std::optional<int32_t> rank,
               const std::string& source) {
  check(right.size() >= skipped,
        "Expected the right part of the merge '{} {}' of {} to begin with the prefix of continued "
        "words, but it is shorter",
        left, right, source);
  const auto id_of = [&](const std::string& spelling) {
    const auto found = vocabulary.find(spelling);
    check(
        found != vocabulary.end(),
        "Expected the merge '{} {}' of {} to join two tokens into a third, but '{}' is not in the "
        "vocabulary",
        left, right, source, spelling);
    return found->second;
  };
  const int32_t left_id = id_of(left);
  const int32_t right_id = id_of(right);
  const int32_t merged = id_of(left + right.substr(skipped));
  table.add(left_id, right_id, rank.value_or(merged), merged);
}

BytePairEncoding::BytePairEncoding(const StringMap<int32_t>& vocabulary,
                                   const std::vector<std::pair<std::string, std::string>>& merges,
                                   Options options, const std::string& source)
    : options_(options) {
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const auto found = vocabulary.find(byte_alphabet()[byte]);
    byte_ids_[byte] = found == vocabulary.end() ? -1 : found->second;
  }
  check(merges.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()),
        "Expected fewer than 2^31 merges in {}, but got {}", source, merges.size());
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const auto its_rank = options.ranks_are_ids ? std::nullopt : std::optional(rank++);
    add_merge(merges_, vocabulary, left, right, /*skipped=*/0, its_rank, source);
  }
  if (!options_.ignore_merges) return;
  for (const auto& [spelling, id] : vocabulary) {
    if (auto bytes = bytes_of_spelling(spelling)) words_.emplace(std::move(*bytes), id);
  }
}

int64_t BytePairEncoding::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  if (options_.ignore_merges) {
    if (const auto found = words_.find(word); found != words_.end()) {
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
  merges_.apply(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  return left_out;
}

}  // namespace megatron
