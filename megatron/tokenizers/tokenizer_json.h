// Reads Hugging Face's tokenizer.json: byte-level BPE only.
#pragma once

#include <memory>
#include <string>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Supported: model BPE without byte fallback, affixes or dropout; no normalizer; pre_tokenizer
// ByteLevel, Split (Isolated or Removed), Digits, or a Sequence of these that ends with ByteLevel;
// decoder ByteLevel; added tokens. Throws Error, naming it, for anything else in these places.
// Ignored: the post_processor (as in Megatron, no begin or end tokens are added) and truncation and
// padding (they apply to batches). The end-of-document token is the eos_token of a
// tokenizer_config.json in the same folder, else the first that exists of <|endoftext|>,
// <|end_of_text|>, </s> and <eos>.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path);

}  // namespace megatron
