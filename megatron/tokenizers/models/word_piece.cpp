#include "megatron/tokenizers/models/word_piece.h"

#include <algorithm>

#include "megatron/tokenizers/text/utf8.h"

namespace megatron {

WordPiece::WordPiece(const Vocabulary& vocabulary, Options options)
    : vocabulary_(vocabulary), options_(std::move(options)) {
  for (const auto& [spelling, id] : vocabulary_) {
    longest_token_ = std::max(longest_token_, spelling.size());
  }
}

int64_t WordPiece::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  int64_t characters = 0;
  visit_characters(word, [&](uint32_t, size_t, size_t) { ++characters; });
  std::vector<int64_t> word_ids;
  size_t begin = 0;
  while (characters <= options_.longest_word && begin < word.size()) {
    std::string candidate = begin > 0 ? options_.continuing_prefix : "";
    const size_t prefix = candidate.size();
    candidate += word.substr(begin, longest_token_);
    // What may be a part of a last character is no token: all tokens are valid UTF-8.
    auto found = vocabulary_.end();
    while (candidate.size() > prefix) {
      found = vocabulary_.find(candidate);
      if (found != vocabulary_.end()) break;
      candidate.resize(last_character(candidate));
    }
    if (found == vocabulary_.end()) break;
    word_ids.push_back(found->second);
    begin += candidate.size() - prefix;
  }
  if (begin < word.size()) {
    ids.push_back(options_.unknown);
  } else {
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
  }
  return 0;
}

int64_t WordLevel::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  const auto found = vocabulary_.find(word);
  ids.push_back(found != vocabulary_.end() ? found->second : unknown_);
  return 0;
}

}  // namespace megatron
