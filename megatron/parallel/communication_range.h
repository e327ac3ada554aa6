// Names of communication in traces of libtorch's profiler.
#pragma once

#include <string_view>

namespace megatron {

// Prefix of the range of a collective or message: this, the global rank, ": ", the operation. A
// range lasts from the start of the operation to the end of its wait. The name holds the rank
// because the thread does not identify it: ranks as threads share autograd's thread of a GPU.
inline constexpr std::string_view kCommunicationRange = "communication of rank ";

}  // namespace megatron
