// Changes of the text before it is split into words: Hugging Face's normalizer.
#pragma once

#include <memory>

#include "megatron/tokenizers/text/json_node.h"
#include "megatron/tokenizers/text/text_piece.h"

namespace megatron {

// Immutable, so that threads may share it.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(TextPiece& piece) const = 0;
  // Whether the result for a text that is cut is the two parts' results in a row, if the cut is
  // before a space or after a line end, and space and line end stay what they are.
  virtual bool keeps_cuts() const { return false; }
};

// NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip, StripAccents, Nmt, ByteLevel,
// BertNormalizer, Precompiled, or a Sequence of these; null for a null node. Throws Error, naming
// it, for anything else.
std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node);

// SentencePiece's table of replacements, in base64 as in a tokenizer.json. Throws Error for a
// damaged one.
std::unique_ptr<Normalizer> make_precompiled_normalizer(const JsonNode& node);

// What a pattern matches becomes `content`.
std::unique_ptr<Normalizer> make_replace_normalizer(const JsonNode& node);

}  // namespace megatron
