// Sizes and counts formatted for people.
#pragma once

#include <cstdint>
#include <string>

namespace megatron {

// Bytes in the largest binary unit that gives at least 1: "16 B", "68.5 KiB".
std::string human_bytes(int64_t bytes);

// A number of parameters: "950", "12.35K", "124.44M", "7.51B", "1.04T".
std::string human_parameters(int64_t count);

}  // namespace megatron
