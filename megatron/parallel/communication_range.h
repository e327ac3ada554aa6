// How a trace of libtorch's profiler names communication.
#pragma once

#include <string_view>

namespace megatron {

// The ranges of a group's operations are called this, the rank in the world, ": " and the
// operation; they last from the start of the operation to the end of the wait for it. The rank is
// in the name because the thread does not always tell it: ranks that are threads share autograd's
// thread of a GPU.
inline constexpr std::string_view kCommunicationRange = "communication of rank ";

}  // namespace megatron
