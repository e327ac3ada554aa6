#include "megatron/base/device.h"

#include <malloc.h>

#include "megatron/base/error.h"

#ifdef MEGATRON_USE_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace megatron {

at::Device device_from_name(std::string_view name, [[maybe_unused]] int local_rank) {
  if (name == "cpu") return at::Device(at::kCPU);
  check(name == "cuda", "Expected --device cpu or cuda, but got '{}'", name);
#ifdef MEGATRON_USE_CUDA
  const int count = c10::cuda::device_count();
  check(local_rank < count,
        "Expected a GPU for local rank {}, but got a machine with {} GPUs; --device cpu works",
        local_rank, count);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(local_rank));
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
#else
  fail(
      "Expected a CUDA build for --device cuda, but got a CPU build; build the 'cuda' preset, or "
      "use --device cpu");
#endif
}

void release_unused_memory([[maybe_unused]] at::Device device) {
#ifdef MEGATRON_USE_CUDA
  if (device.is_cuda()) return c10::cuda::CUDACachingAllocator::emptyCache();
#endif
  malloc_trim(/*pad=*/0);
}

void synchronize([[maybe_unused]] at::Device device) {
#ifdef MEGATRON_USE_CUDA
  if (device.is_cuda()) c10::cuda::device_synchronize();
#endif
}

}  // namespace megatron
