// Numbers of bytes for people.
#pragma once

#include <cstdint>
#include <string>

namespace megatron {

// In the largest of B to TiB of which it is at least one: "16 B", "68.5 KiB".
std::string human_bytes(int64_t bytes);

}  // namespace megatron
