// Turns the spellings of tokens back into text: Hugging Face's decoder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"

namespace megatron {

// Immutable, so that threads may share it.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // Changes the texts of tokens; the text of all is theirs in a row.
  virtual void apply(std::vector<std::string>& tokens) const = 0;
  // Whether byte tokens such as <0x0A> become bytes.
  virtual bool joins_byte_tokens() const { return false; }
};

// ByteLevel, ByteFallback, Fuse, Strip, Metaspace, Replace, WordPiece, BPEDecoder, or a Sequence of
// these. Without a decoder (a null node), spaces separate the tokens. Throws Error, naming it, for
// anything else. Differs from Hugging Face's in one point: ByteLevel keeps bytes that are not UTF-8.
std::unique_ptr<Decoder> make_decoder(const JsonNode& node);

}  // namespace megatron
