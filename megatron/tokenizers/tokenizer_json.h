// Hugging Face's tokenizer.json.
#pragma once

#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct TokenizerJsonOptions {
  bool special_tokens = false;  // add those of the post_processor to each text
  bool fast_path = true;        // false: the general pipeline for byte-level BPE too, for tests
};

// Reads every component that docs/tokenizers.md lists; throws Error, naming it, for anything else in
// its place, and for malformed files. Ignored: truncation and padding (they apply to batches), and,
// without `special_tokens`, the post_processor: as in Megatron, no begin or end tokens are added. The
// end-of-document token is the eos_token of a tokenizer_config.json in the same folder, else the
// first that exists of <|endoftext|>, <|end_of_text|>, </s> and <eos>.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path,
                                               TokenizerJsonOptions options = {});

// The same from the content of a file; `source` names it in messages. `eos_token` is the text of the
// end-of-document token, "" for the first of those above.
std::unique_ptr<Tokenizer> make_tokenizer_json(const nlohmann::json& content,
                                               const std::string& source,
                                               const std::string& eos_token,
                                               TokenizerJsonOptions options = {});

// A text of the tokenizer_config.json in the folder of `file`, which may be the content of an added
// token; "" if there is none.
std::string text_of_tokenizer_config(const std::string& file, const char* key);

// A flag of that file.
bool flag_of_tokenizer_config(const std::string& file, const char* key, bool otherwise);

}  // namespace megatron
