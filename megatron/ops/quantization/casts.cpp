#include "megatron/ops/quantization/casts.h"

#include <ATen/ATen.h>

#include "megatron/ops/quantization/low_precision_kernels.h"
#include "megatron/ops/quantization/quantizable.h"

namespace megatron {

at::Tensor cast_to_codes(const at::Tensor& x, LowPrecisionFormat format, CastOverflow overflow) {
  check_quantizable(x, "cast_to_codes");
  const at::Tensor from = x.contiguous();
  at::Tensor codes = at::empty(x.sizes(), at::kByte);
  dispatch_quantizable(from.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::cast_to_codes<level>(from.const_data_ptr<T>(), from.numel(), /*scale=*/1.0f, format,
                                    overflow, codes.data_ptr<uint8_t>());
    });
  });
  return codes;
}

at::Tensor decode_codes(const at::Tensor& codes, LowPrecisionFormat format) {
  check_defined(codes, "decode_codes", "codes");
  check(codes.scalar_type() == at::kByte && codes.is_cpu(),
        "decode_codes: Expected codes as uint8 on the CPU, but got {} on {}",
        c10::toString(codes.scalar_type()), codes.device().str());
  const at::Tensor from = codes.contiguous();
  at::Tensor values = at::empty(codes.sizes(), at::kFloat);
  with_kernel_level([&](auto level) {
    kernels::decode_codes<level>(from.const_data_ptr<uint8_t>(), from.numel(), format,
                                 values.data_ptr<float>());
  });
  return values;
}

}  // namespace megatron
