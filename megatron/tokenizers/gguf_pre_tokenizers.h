// The byte-level BPE tokenizers that GGUF's tokenizer.ggml.pre names: how they split text before
// merging, which the file itself does not hold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace megatron {

struct GgufPreTokenizer {
  std::vector<const char*> names;        // of tokenizer.ggml.pre; the first one is written
  std::vector<const char*> expressions;  // splits, each applied to the pieces of the one before
  bool normalizes = false;               // to NFC
  bool ignore_merges = false;  // a word in the vocabulary is one token, whatever the merges
  bool adds_bos = false;       // where the file does not say
};

const std::vector<GgufPreTokenizer>& gguf_pre_tokenizers();

// Throws Error for an unknown name, with those that are known.
const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view name, const std::string& source);

// The components of a tokenizer.json that do the same.
nlohmann::json pre_tokenizer_json(const GgufPreTokenizer& entry, bool add_prefix_space);
nlohmann::json normalizer_json(const GgufPreTokenizer& entry);

// The entry that splits as a tokenizer.json does. Throws Error if there is none.
const GgufPreTokenizer& gguf_pre_tokenizer_of(const nlohmann::json& tokenizer,
                                              const std::string& source);

}  // namespace megatron
