// Hugging Face's tokenizer.json, as far as byte-level BPE goes.
#pragma once

#include <memory>
#include <string>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Supported: model BPE without byte fallback, affixes or dropout; no normalizer; pre_tokenizer
// ByteLevel, Split (isolated or removed), Digits, or a sequence of these with ByteLevel in it;
// decoder ByteLevel; added tokens. Anything else in these places is an Error that names it. The
// post_processor's begin and end tokens are not added (as in Megatron, text is encoded bare);
// truncation and padding are for batches and do not concern a data set. The end of a document is
// the eos_token of a tokenizer_config.json in the same folder, else <|endoftext|>,
// <|end_of_text|>, </s> or <eos>, whichever exists first.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path);

}  // namespace megatron
