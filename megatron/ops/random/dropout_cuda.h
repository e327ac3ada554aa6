// The interface of the CUDA dropout kernel: plain pointers and no ATen headers, which nvcc compiles
// slowly.
#pragma once

#include <cstdint>

namespace megatron::kernels {

enum class DeviceType { fp32, fp64, bf16, fp16 };

// DropoutRows with device pointers; streams [samples] are the Philox keys of the samples.
struct DropoutLaunch {
  const uint64_t* streams;
  const int64_t* positions;
  int64_t samples;
  int64_t position_count;
  int64_t heads;
  int64_t head_offset;
  int64_t rows;
  int64_t columns;
  uint32_t threshold;
  double scale;
};

// y = residual + dropout(x + bias) on the current device; bias and residual may be null, `stream`
// is a cudaStream_t. Returns null, or the error message of the launch.
const char* dropout_cuda(const DropoutLaunch& launch, DeviceType type, const void* x,
                         const void* bias, const void* residual, void* y, void* stream);

}  // namespace megatron::kernels
