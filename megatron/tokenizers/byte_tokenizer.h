// Tokenizers without files: raw bytes, and Megatron's NullTokenizer, whose text is ids.
#pragma once

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Ids 0 to 255 are the bytes; 256 is the end-of-document token.
class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer();
  std::unique_ptr<TokenEncoder> make_encoder() const override;
  std::string_view token_bytes(int64_t id) const override;
  size_t last_safe_cut(std::string_view text, size_t limit) const override;
  int64_t vocab_size() const override { return 257; }
  std::optional<int64_t> eod() const override { return 256; }
  std::string identifiers() const override;

 private:
  std::string bytes_;
};

// Text is decimal ids separated by white space: "17 4 256" -> 17, 4, 256. Ids 0 to `ids` - 1 are
// tokens and `ids` is the end-of-document token, as in Megatron; vocab_size() is ids + 1.
class NullTokenizer : public Tokenizer {
 public:
  explicit NullTokenizer(int64_t ids);
  std::unique_ptr<TokenEncoder> make_encoder() const override;
  std::string_view token_bytes(int64_t id) const override;
  size_t last_safe_cut(std::string_view text, size_t limit) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(names_.size()); }
  std::optional<int64_t> eod() const override { return vocab_size() - 1; }
  std::string identifiers() const override;

 private:
  std::vector<std::string> names_;  // "17 "
};

}  // namespace megatron
