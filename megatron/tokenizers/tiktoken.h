// tiktoken vocabularies: byte-level BPE in which a pair merges in the order of the result's rank.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct TikTokenOptions {
  std::string pattern = "v2";               // Megatron's expressions for words: v1 or v2
  int64_t num_special_tokens = 1000;        // ids 0 to this - 1; ranks follow
  std::vector<std::string> special_tokens;  // the first of them; empty: Megatron's seven
  std::optional<int64_t> vocab_size;        // default: see below
};

// Megatron's TikTokenizer. `path` is a file of lines "token in base64, rank", of which all are used
// by default, or Megatron's JSON list of {"rank", "token_bytes", "token_str"}, which is cut to a
// vocabulary of 131,072 by default, as Megatron does. An id is a rank plus num_special_tokens; the
// special tokens, which are matched in text, are filled up with <SPECIAL_7> and so on. The
// end-of-document token is </s>. Throws Error for a missing or malformed file, and for special tokens
// that do not fit.
std::unique_ptr<Tokenizer> load_tiktoken(const std::string& path, const TikTokenOptions& options);

}  // namespace megatron
