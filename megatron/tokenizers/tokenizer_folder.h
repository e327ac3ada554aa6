// The tokenizer in a folder of a model, as Hugging Face stores it.
#pragma once

#include <memory>
#include <string>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// `path` is a tokenizer.json, a GGUF file (gguf_tokenizer.h), or a folder with the first of these: tokenizer.json; tokenizer.model
// (SentencePiece); vocab.json with merges.txt. `special_tokens` adds begin and end tokens to each text:
// those of the post_processor of a tokenizer.json; for a tokenizer.model those that add_bos_token
// (default true) and add_eos_token (default false) of the tokenizer_config.json ask for; for a GGUF
// file those that it asks for. Throws Error
// for a folder with none of the files, and for vocab.json with `special_tokens`.
std::unique_ptr<Tokenizer> load_hugging_face_tokenizer(const std::string& path,
                                                       bool special_tokens = false);

}  // namespace megatron
