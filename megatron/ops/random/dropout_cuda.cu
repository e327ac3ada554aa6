// CUDA kernel of dropout; masks are drawn where they are used and are bit-identical to those of the
// CPU kernel.
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "megatron/ops/random/dropout_cuda.h"
#include "megatron/ops/random/philox.h"

namespace megatron::kernels {

namespace {

template <typename T>
struct DeviceAccumulation {
  using type = float;
};
template <>
struct DeviceAccumulation<double> {
  using type = double;
};

// A thread handles the four words of a Philox block: columns base, base + 16, base + 32, base + 48.
template <typename T>
__global__ void dropout_kernel(DropoutLaunch launch, const T* x, const T* bias, const T* residual,
                               T* y) {
  using A = typename DeviceAccumulation<T>::type;
  const int64_t blocks_per_row = (launch.columns + 63) / 64 * 16;
  const int64_t total = launch.rows * blocks_per_row;
  const A scale = static_cast<A>(launch.scale);
  for (int64_t item = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; item < total;
       item += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t row = item / blocks_per_row;
    const auto block = static_cast<uint32_t>(item % blocks_per_row);
    int64_t sample, head = 0, position;
    if (launch.heads == 0) {
      position = row / launch.samples;
      sample = row % launch.samples;
    } else {
      position = row % launch.position_count;
      const int64_t outer = row / launch.position_count;
      sample = outer / launch.heads;
      head = launch.head_offset + outer % launch.heads;
    }
    const uint64_t stream = launch.streams[sample];
    uint32_t word[4] = {block, static_cast<uint32_t>(launch.positions[position]),
                        static_cast<uint32_t>(head), 0};
    philox4x32_10_words(word[0], word[1], word[2], word[3], static_cast<uint32_t>(stream),
                        static_cast<uint32_t>(stream >> 32));
    const int64_t base = block / 16 * 64 + block % 16;
    for (int j = 0; j < 4; ++j) {
      const int64_t column = base + 16 * j;
      if (column >= launch.columns) break;
      const int64_t i = row * launch.columns + column;
      A value = static_cast<A>(x[i]);
      if (bias != nullptr) value += static_cast<A>(bias[column]);
      if (launch.threshold > 0) value = word[j] >= launch.threshold ? value * scale : A(0);
      if (residual != nullptr) value += static_cast<A>(residual[i]);
      y[i] = static_cast<T>(value);
    }
  }
}

template <typename T>
void launch_dropout(const DropoutLaunch& launch, const void* x, const void* bias,
                    const void* residual, void* y, cudaStream_t stream) {
  constexpr int threads = 256;
  const int64_t total = launch.rows * ((launch.columns + 63) / 64 * 16);
  if (total == 0) return;
  const int64_t wanted = (total + threads - 1) / threads;
  const int grid = static_cast<int>(wanted < 65536 ? wanted : 65536);
  dropout_kernel<T>
      <<<grid, threads, 0, stream>>>(launch, static_cast<const T*>(x), static_cast<const T*>(bias),
                                     static_cast<const T*>(residual), static_cast<T*>(y));
}

}  // namespace

const char* dropout_cuda(const DropoutLaunch& launch, DeviceType type, const void* x,
                         const void* bias, const void* residual, void* y, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  switch (type) {
    case DeviceType::fp32:
      launch_dropout<float>(launch, x, bias, residual, y, queue);
      break;
    case DeviceType::fp64:
      launch_dropout<double>(launch, x, bias, residual, y, queue);
      break;
    case DeviceType::bf16:
      launch_dropout<__nv_bfloat16>(launch, x, bias, residual, y, queue);
      break;
    case DeviceType::fp16:
      launch_dropout<__half>(launch, x, bias, residual, y, queue);
      break;
  }
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace megatron::kernels
