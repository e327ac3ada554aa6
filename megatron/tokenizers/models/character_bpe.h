// Byte-pair encoding of words of characters, as of Llama 2, Gemma and CLIP: characters that are not
// in the vocabulary become byte tokens such as <0x0A>, or the unknown token.
#pragma once

#include <array>
#include <optional>
#include <set>

#include "megatron/tokenizers/models/merge_table.h"
#include "megatron/tokenizers/models/word_model.h"

namespace megatron {

struct CharacterBpeOptions {
  std::optional<int32_t> unknown;
  bool fuse_unknown = false;  // one unknown token per run of unknown characters
  bool byte_fallback = false;
  bool ignore_merges = false;      // a word in the vocabulary is one token, whatever the merges
  std::string continuing_prefix;   // before each character of a word but the first
  std::string end_of_word_suffix;  // after the last character
};

class CharacterBpe : public WordModel {
 public:
  // `merges`: pairs of spellings, best first. Throws Error for a merge whose parts or result are not
  // in the vocabulary.
  CharacterBpe(const Vocabulary& vocabulary,
               const std::vector<std::pair<std::string, std::string>>& merges,
               CharacterBpeOptions options, const std::string& source);

  int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const override;
  size_t first_part(std::string_view word) const override;

 private:
  // Returns the number of bytes dropped.
  int64_t append_symbols(std::string_view word, std::vector<int32_t>& symbols) const;
  bool append_bytes(std::string_view character, std::vector<int32_t>& symbols) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  CharacterBpeOptions options_;
  std::array<int32_t, 256> byte_ids_{};  // of <0x00> to <0xFF>; -1: no token
  bool has_parts_ = false;
  std::set<uint32_t> before_space_;  // characters that stand before the space mark in a token
};

// Spelling of a byte token: <0x0A>.
std::string byte_token(unsigned char byte);
// The byte of such a spelling, with any letters in either case.
std::optional<unsigned char> byte_of_token(std::string_view spelling);

}  // namespace megatron
