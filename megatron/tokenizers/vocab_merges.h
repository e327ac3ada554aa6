// GPT-2's pair of files: vocab.json (spelling -> id) and merges.txt (one pair per line, best
// first).
#pragma once

#include <memory>
#include <string>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Megatron's GPT2BPETokenizer. <|endoftext|> is the end-of-document token; as in Megatron, it is
// not matched in text. Throws Error for a missing or malformed file.
std::unique_ptr<Tokenizer> load_vocab_merges(const std::string& vocab_file,
                                             const std::string& merge_file);

}  // namespace megatron
