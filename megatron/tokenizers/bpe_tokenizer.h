// Byte-level BPE tokenizers (GPT-2 and its descendants). tokenizer_json.h, vocab_merges.h and
// tiktoken.h read their files.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "megatron/tokenizers/added_tokens.h"
#include "megatron/tokenizers/models/byte_pair_encoding.h"
#include "megatron/tokenizers/normalizers/normalizer.h"
#include "megatron/tokenizers/safe_cut.h"
#include "megatron/tokenizers/text/string_map.h"
#include "megatron/tokenizers/tokenizer.h"
#include "megatron/tokenizers/word_splitter.h"

namespace megatron {

struct BpeTokenizerParts {
  std::string kind;  // GPT2BPETokenizer, HuggingFaceTokenizer or TikTokenizer
  std::string path;
  std::unique_ptr<Normalizer> normalizer;  // may be null; applies to the text between `added`
  StringMap<int32_t> vocabulary;           // spelling in the byte alphabet -> id
  std::vector<std::pair<std::string, std::string>> merges;
  BytePairEncoding::Options bpe;
  std::vector<PreTokenizerStep> steps;
  std::vector<AddedToken> added;             // matched first
  std::vector<AddedToken> added_normalized;  // matched in the text between those
  std::optional<int64_t> eod;
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeTokenizerParts parts);

  std::unique_ptr<TokenEncoder> make_encoder() const override;
  std::string_view token_bytes(int64_t id) const override;
  size_t last_safe_cut(std::string_view text, size_t limit) const override {
    return safe_cuts_.last(text, limit);
  }
  int64_t vocab_size() const override { return static_cast<int64_t>(bytes_.size()); }
  std::optional<int64_t> eod() const override { return eod_; }
  std::string identifiers() const override;

 private:
  friend class BpeEncoder;
  std::string kind_;
  std::string path_;
  std::unique_ptr<Normalizer> normalizer_;
  BytePairEncoding bpe_;
  std::vector<PreTokenizerStep> steps_;
  AddedTokenFinder added_;
  AddedTokenFinder added_normalized_;
  SafeCutFinder safe_cuts_;
  std::optional<int64_t> eod_;
  std::vector<std::string> bytes_;  // by id; empty for an unused id
};

}  // namespace megatron
