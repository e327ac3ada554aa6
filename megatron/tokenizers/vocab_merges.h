// GPT-2's pair of files: vocab.json (spelling -> id) and merges.txt (a pair a line, best first).
#pragma once

#include <memory>
#include <string>

#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Megatron's GPT2BPETokenizer. <|endoftext|> ends documents and, as there, is not looked for in
// text. Throws Error where a file is missing or is something else.
std::unique_ptr<Tokenizer> load_vocab_merges(const std::string& vocab_file,
                                             const std::string& merge_file);

}  // namespace megatron
