// The tokenizer in the metadata of a GGUF file, and its form as files of a Hugging Face folder.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "megatron/formats/gguf_metadata.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Models: `gpt2` (byte-level BPE, split as tokenizer.ggml.pre says) and `llama` (SentencePiece, by
// libsentencepiece). Control and user-defined tokens of `gpt2` are matched in text, as by Hugging Face;
// control tokens of `llama` are not, as by SentencePiece. The end-of-document token is that of
// tokenizer.ggml.eos_token_id. `special_tokens` adds begin and end tokens to each text, as the file
// says (add_bos_token, add_eos_token). Throws Error, naming it, for another model or an unknown `pre`,
// and for metadata that contradict each other.
std::unique_ptr<Tokenizer> make_gguf_tokenizer(const GgufMetadata& metadata,
                                               bool special_tokens = false);
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::string& path,
                                               bool special_tokens = false);

// Files by name: tokenizer.json or tokenizer.model, with a tokenizer_config.json. Empty for a file
// without a tokenizer (tokenizer.ggml.model is missing or "none").
std::map<std::string, std::string> tokenizer_files_of_gguf(const GgufMetadata& metadata);

// The other way: adds the entries of the tokenizer in `files` to `metadata`. Ids from the tokenizer's
// to `vocab_size` become unused tokens. `bos`, `eos` and `pad`: where the files do not name them.
// Throws Error for a tokenizer that GGUF has no name for, and without one of the files.
struct GgufSpecialIds {
  std::optional<int64_t> bos, eos, pad;
};
void add_gguf_tokenizer(const std::map<std::string, std::string>& files, int64_t vocab_size,
                        const GgufSpecialIds& ids, GgufMetadata& metadata);

}  // namespace megatron
