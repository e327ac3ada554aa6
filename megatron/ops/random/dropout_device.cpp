// Copies the keys to the device and launches the dropout kernel on the current stream.
#include "megatron/ops/random/dropout_device.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/random/dropout_cuda.h"
#include "megatron/ops/random/dropout_mask.h"

namespace megatron {

namespace {

kernels::DeviceType device_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return kernels::DeviceType::fp32;
    case at::kDouble:
      return kernels::DeviceType::fp64;
    case at::kBFloat16:
      return kernels::DeviceType::bf16;
    case at::kHalf:
      return kernels::DeviceType::fp16;
    default:
      fail("dropout: Expected dtype fp32, fp64, bf16 or fp16, but got {}", dtype_name(dtype));
  }
}

}  // namespace

at::Tensor dropout_on_device(const kernels::DropoutRows& rows, const at::Tensor& x,
                             const at::Tensor& bias, const at::Tensor& residual) {
  const c10::cuda::CUDAGuard guard(x.device());
  at::Tensor keys = at::empty({rows.samples + rows.position_count}, at::kLong);
  int64_t* host = keys.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows.samples; ++i) {
    host[i] = static_cast<int64_t>(
        dropout_stream(rows.seed, rows.layer, rows.site, rows.sample_ordinals[i]));
  }
  std::copy(rows.positions, rows.positions + rows.position_count, host + rows.samples);
  const at::Tensor device_keys = keys.to(x.device());
  const auto* on_device = device_keys.const_data_ptr<int64_t>();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const kernels::DropoutLaunch launch{.streams = reinterpret_cast<const uint64_t*>(on_device),
                                      .positions = on_device + rows.samples,
                                      .samples = rows.samples,
                                      .position_count = rows.position_count,
                                      .heads = rows.heads,
                                      .head_offset = rows.head_offset,
                                      .rows = rows.row_count(),
                                      .columns = rows.columns,
                                      .threshold = rows.threshold,
                                      .scale = rows.scale};
  const char* error =
      kernels::dropout_cuda(launch, device_type(x.scalar_type()), x.const_data_ptr(),
                            bias.defined() ? bias.const_data_ptr() : nullptr,
                            residual.defined() ? residual.const_data_ptr() : nullptr,
                            y.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream().stream());
  check(error == nullptr, "dropout: Expected the CUDA kernel to start, but got: {}",
        error == nullptr ? "" : error);
  return y;
}

}  // namespace megatron
