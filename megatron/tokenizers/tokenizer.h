// Text to token ids and back: the interface of every tokenizer. build_tokenizer.h makes one from
// the command line's options.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// Encodes in one thread; holds a cache and scratch memory. The tokenizer must outlive it.
class TokenEncoder {
 public:
  virtual ~TokenEncoder() = default;
  // Appends the ids of `text` to `ids`. Accepts any bytes. Adds begin and end tokens only if the
  // tokenizer was made to.
  virtual void encode(std::string_view text, std::vector<int64_t>& ids) = 0;
  // Number of input bytes dropped so far because the vocabulary has no token for them, as Hugging
  // Face drops them; 0 if the vocabulary covers all 256 bytes.
  virtual int64_t bytes_left_out() const { return 0; }
};

// Immutable, so that threads may share it.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::unique_ptr<TokenEncoder> make_encoder() const = 0;
  std::vector<int64_t> encode(std::string_view text) const;

  // The bytes that an id adds after other text; the name of a special token. Throws Error for an
  // unknown id.
  virtual std::string_view token_bytes(int64_t id) const = 0;
  // The text of ids. For byte-level BPE, decode(encode(text)) == text for any bytes if the vocabulary
  // covers all 256 of them. Other tokenizers may drop or add spaces and change characters.
  virtual std::string decode(std::span<const int64_t> ids) const { return continuation(ids); }
  // The text that ids add after other text. Differs from decode() where a tokenizer treats the
  // beginning of a text in its own way.
  std::string continuation(std::span<const int64_t> ids) const;

  // The largest position `cut`, 0 < cut <= limit, at which a text that begins with `text` can be
  // split: the ids of the parts, concatenated, are those of the full text, whatever follows `text`.
  // 0 if there is none or it is not known.
  virtual size_t last_safe_cut(std::string_view text, size_t limit) const = 0;

  // The largest id + 1.
  virtual int64_t vocab_size() const = 0;
  // The end-of-document token.
  virtual std::optional<int64_t> eod() const = 0;

  // A JSON object for messages and cache names: {"class": ..., "tokenizer_path": ...}.
  virtual std::string identifiers() const = 0;
  // A hash of the vocabulary: 16 hexadecimal digits.
  std::string fingerprint() const;

  // Bytes of text per id; 0 for the end-of-document token. Bits per byte = sum of nats / ln 2 / sum
  // of these lengths over the predicted tokens.
  std::vector<int32_t> token_byte_lengths() const;
};

}  // namespace megatron
