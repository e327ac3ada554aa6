// Collectives of strings, packed into byte tensors.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/parallel/process_group.h"

namespace megatron {

// Every rank's text, in group order. For tables and messages, not for bulk data: each rank receives
// size() times the longest text.
std::vector<std::string> all_gather_strings(std::string_view text, const ProcessGroup& group);

}  // namespace megatron
