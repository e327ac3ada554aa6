// The device that a rank computes on. Only this header, ops/ and parallel/ know that there is more
// than one kind.
#pragma once

#include <string_view>

#include <c10/core/Device.h>

namespace megatron {

// "cpu", or "cuda" for the GPU number `local_rank`. Throws Error for other names, for "cuda" in a
// build without MEGATRON_CUDA, and where no such GPU is at hand.
at::Device device_from_name(std::string_view name, int local_rank);

// Waits until the device has done all work queued so far; nothing to do on a CPU.
void synchronize(at::Device device);

}  // namespace megatron
