// Recognizes the pre-tokenizers of byte-level BPE that a WordSplitter can do.
#pragma once

#include <optional>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"
#include "megatron/tokenizers/word_splitter.h"

namespace megatron {

// The steps of ByteLevel, or of a Sequence of Split (Isolated or Removed) and Digits that ends with
// ByteLevel; nothing for any other pre-tokenizer.
std::optional<std::vector<PreTokenizerStep>> byte_level_steps(const JsonNode& pre_tokenizer);

}  // namespace megatron
