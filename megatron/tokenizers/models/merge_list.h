// The merges of a BPE model in a tokenizer.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"

namespace megatron {

// Pairs of spellings, best first: each is a list of two texts, or a text with one space. Throws
// Error for anything else.
std::vector<std::pair<std::string, std::string>> read_merges(const JsonNode& merges);

}  // namespace megatron
