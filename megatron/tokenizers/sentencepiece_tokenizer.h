// Tokenizers of SentencePiece's tokenizer.model files, by libsentencepiece.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// `kind` names the type in identifiers(). The end-of-document token is the model's eos. Adds no begin
// or end tokens, and does not match special tokens such as </s> in text. Throws Error for a missing
// or malformed file.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, const std::string& kind);

// The same from the content of a file; `source` names it in messages.
std::unique_ptr<Tokenizer> make_sentencepiece(std::string_view content, const std::string& source,
                                              const std::string& kind);

// The begin token of a tokenizer made by these functions, if it has one.
std::optional<int64_t> sentencepiece_bos(const Tokenizer& tokenizer);

}  // namespace megatron
