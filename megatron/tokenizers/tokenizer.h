// Text to token ids and back. One interface for every kind of tokenizer; build_tokenizer.h makes
// one from the files that the user names.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// One thread's means of encoding: a cache and scratch memory. Its tokenizer must outlive it.
class TokenEncoder {
 public:
  virtual ~TokenEncoder() = default;
  // Appends the ids of `text`, any bytes, to `ids`. No begin or end tokens are added.
  virtual void encode(std::string_view text, std::vector<int64_t>& ids) = 0;
  // Bytes that had no token in the vocabulary and were left out, as Hugging Face does; 0 where the
  // vocabulary can spell every byte.
  virtual int64_t bytes_left_out() const { return 0; }
};

// Does not change once made, so that threads may share it.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::unique_ptr<TokenEncoder> make_encoder() const = 0;
  std::vector<int64_t> encode(std::string_view text) const;

  // The bytes of one id, as text; special tokens by their names. Throws Error for an id that is
  // none.
  virtual std::string_view token_bytes(int64_t id) const = 0;
  // Where the vocabulary can spell every byte, decode(encode(text)) == text for any bytes.
  std::string decode(std::span<const int64_t> ids) const;

  // The largest id + 1.
  virtual int64_t vocab_size() const = 0;
  // The token that ends a document.
  virtual std::optional<int64_t> eod() const = 0;

  // Kind and file, for messages and for the names of caches: {"class": ..., "tokenizer_path": ...}.
  virtual std::string identifiers() const = 0;
  // 16 hexadecimal digits that differ where the vocabulary differs.
  std::string fingerprint() const;

  // Bytes of text that each id stands for, by id; 0 for the end of document, which is no text. So
  // bits per byte = sum of nats / ln 2 / sum of these lengths over the predicted tokens.
  std::vector<int32_t> token_byte_lengths() const;
};

}  // namespace megatron
