// How a trace of libtorch's profiler names communication.
#pragma once

#include <string_view>

namespace megatron {

// The names of a group's operations begin with this; their ranges last from the start of the
// operation to the end of the wait for it.
inline constexpr std::string_view kCommunicationRange = "communication: ";

}  // namespace megatron
