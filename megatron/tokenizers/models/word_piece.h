// Models that look whole words up: WordPiece (BERT), which takes the longest token again and again,
// and WordLevel.
#pragma once

#include "megatron/tokenizers/models/word_model.h"

namespace megatron {

class WordPiece : public WordModel {
 public:
  struct Options {
    int32_t unknown;
    std::string continuing_prefix;  // of tokens that continue a word
    int64_t longest_word;           // in characters; longer words are unknown
  };
  WordPiece(const Vocabulary& vocabulary, Options options);
  int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const override;

 private:
  Vocabulary vocabulary_;
  Options options_;
  size_t longest_token_ = 0;  // in bytes
};

class WordLevel : public WordModel {
 public:
  WordLevel(const Vocabulary& vocabulary, int32_t unknown)
      : vocabulary_(vocabulary), unknown_(unknown) {}
  int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const override;

 private:
  Vocabulary vocabulary_;
  int32_t unknown_;
};

}  // namespace megatron
