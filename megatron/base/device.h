// The device of a rank. Only this header, ops/ and parallel/ distinguish kinds of devices.
#pragma once

#include <string_view>

#include <c10/core/Device.h>

namespace megatron {

// "cpu", or "cuda" for GPU `local_rank`. Throws Error for any other name, for "cuda" in a build
// without MEGATRON_CUDA, and if that GPU does not exist.
at::Device device_from_name(std::string_view name, int local_rank);

// Returns memory that the device's allocator keeps for reuse: on a CPU to the system.
void release_unused_memory(at::Device device);

// Waits until the device has finished all queued work. Does nothing on a CPU.
void synchronize(at::Device device);

}  // namespace megatron
