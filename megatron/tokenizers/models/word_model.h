// A trained vocabulary that turns a word, a text without added tokens that the pre-tokenizer left in
// one piece, into ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"
#include "megatron/tokenizers/text/string_map.h"

namespace megatron {

// Immutable, so that threads may share it.
class WordModel {
 public:
  virtual ~WordModel() = default;
  // Appends the ids of a word (valid UTF-8, not empty). Returns the number of bytes dropped because
  // the vocabulary has no token for them.
  virtual int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const = 0;
  // The length of a first part of the word whose ids, followed by those of the rest, are the ids of
  // the word. Long words are encoded and cached by such parts.
  virtual size_t first_part(std::string_view word) const { return word.size(); }
};

using Vocabulary = StringMap<int32_t>;  // spelling -> id

inline constexpr int32_t kLargestTokenId = (1 << 24) - 1;  // bounds the memory for a damaged file

// model.vocab of BPE, WordPiece and WordLevel. Throws Error for ids that are out of range or taken
// twice.
Vocabulary read_vocabulary(const JsonNode& vocab);

// The id of the spelling that `node` names. Throws Error if it is not in the vocabulary.
int32_t id_of_token(const JsonNode& node, const Vocabulary& vocabulary);

struct LoadedModel {
  std::unique_ptr<WordModel> model;
  Vocabulary vocabulary;
};

// The model of a tokenizer.json: BPE, Unigram, WordPiece or WordLevel. Early files have no type; the
// fields tell it. Throws Error, naming it, for what is not supported.
LoadedModel load_word_model(const JsonNode& model);

// "BPE", also for a file without the type.
std::string model_type(const JsonNode& model);

}  // namespace megatron
