// Tokenizers of a tokenizer.json with any components: normalizer, pre-tokenizer, model, decoder.
// bpe_tokenizer.h is the faster form for byte-level BPE.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "megatron/tokenizers/added_tokens.h"
#include "megatron/tokenizers/decoders/decoder.h"
#include "megatron/tokenizers/models/word_model.h"
#include "megatron/tokenizers/normalizers/normalizer.h"
#include "megatron/tokenizers/pre_tokenizers/pre_tokenizer.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct PipelineTokenizerParts {
  std::string kind;
  std::string path;
  std::unique_ptr<Normalizer> normalizer;       // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null: a text is one word
  std::unique_ptr<WordModel> model;
  std::unique_ptr<Decoder> decoder;
  Vocabulary vocabulary;                     // of the model
  std::vector<AddedToken> added;             // matched in the text as it is
  std::vector<AddedToken> added_normalized;  // matched, normalized too, in the normalized text
  std::optional<int64_t> eod;
};

class PipelineTokenizer : public Tokenizer {
 public:
  // Throws Error for ids that are out of range.
  explicit PipelineTokenizer(PipelineTokenizerParts parts);

  // Bytes that are not UTF-8 count as U+FFFD.
  std::unique_ptr<TokenEncoder> make_encoder() const override;
  std::string_view token_bytes(int64_t id) const override;
  std::string decode(std::span<const int64_t> ids) const override;
  size_t last_safe_cut(std::string_view, size_t) const override { return 0; }
  int64_t vocab_size() const override { return static_cast<int64_t>(spellings_.size()); }
  std::optional<int64_t> eod() const override { return eod_; }
  std::string identifiers() const override;

 private:
  friend class PipelineEncoder;
  void set_token_bytes();

  std::string kind_;
  std::string path_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<WordModel> model_;
  std::unique_ptr<Decoder> decoder_;
  AddedTokenFinder added_;
  AddedTokenFinder added_normalized_;
  std::optional<int64_t> eod_;
  std::vector<std::string> spellings_;  // by id; empty for an unused id
  std::vector<std::string> bytes_;      // by id
};

}  // namespace megatron
