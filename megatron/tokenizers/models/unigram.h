// SentencePiece's unigram model: the split of a text into tokens with the largest sum of scores.
#pragma once

#include <optional>
#include <utility>

#include "megatron/tokenizers/models/word_model.h"
#include "megatron/tokenizers/text/prefix_trie.h"

namespace megatron {

class Unigram : public WordModel {
 public:
  // `pieces`: spellings with their scores; the place in the list is the id. Throws Error for scores
  // that are not finite.
  Unigram(std::vector<std::pair<std::string, double>> pieces, int32_t unknown, bool byte_fallback,
          const std::string& source);

  int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const override;

 private:
  // Appends the ids of a part that the best split left to one token or to a run of unknown ones.
  void append_ids(std::string_view part, std::vector<int64_t>& ids) const;

  Vocabulary vocabulary_;
  PrefixTrie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  int32_t unknown_;
  std::optional<std::vector<int32_t>> byte_ids_;  // of <0x00> to <0xFF>; -1: no token
};

}  // namespace megatron
