#include "megatron/ops/quantization/quantized_tensor.h"

#include <bit>

#include <ATen/ATen.h>

#include "megatron/ops/quantization/casts.h"
#include "megatron/ops/quantization/low_precision_kernels.h"

namespace megatron {
namespace {

// The scales of the blocks as floats, without NVFP4's scale of the tensor.
at::Tensor block_scales(const QuantizedTensor& x) {
  switch (x.scaling) {
    case QuantizedTensor::Scaling::fp32:
      return x.scale_inv.contiguous();
    case QuantizedTensor::Scaling::e8m0:
      return decode_codes(x.scale_inv, LowPrecisionFormat::e8m0);
    case QuantizedTensor::Scaling::nvfp4:
      return decode_codes(x.scale_inv, LowPrecisionFormat::e4m3);
  }
  return x.scale_inv;
}

// The values of the codes times the scales of their blocks.
template <typename T>
at::Tensor expand(const QuantizedTensor& x, const at::Tensor& scales) {
  at::Tensor values = at::empty({x.rows, x.columns}, c10::CppTypeToScalarType<T>::value);
  if (values.numel() == 0) return values;
  with_kernel_level([&](auto level) {
    kernels::expand_codes<level>(
        x.codes.const_data_ptr<uint8_t>(),
        kernels::BlockedShape{x.rows, x.columns, x.block_rows, x.block_columns}, x.format,
        scales.const_data_ptr<float>(), values.data_ptr<T>());
  });
  return values;
}

bool are_powers_of_two(const at::Tensor& scales) {
  const float* const values = scales.const_data_ptr<float>();
  for (int64_t i = 0; i < scales.numel(); ++i) {
    if ((std::bit_cast<uint32_t>(values[i]) & 0x7FFFFFu) != 0) return false;
  }
  return true;
}

}  // namespace

at::Tensor QuantizedTensor::dequantize() const {
  const at::Tensor values = expand<float>(*this, block_scales(*this));
  return scaling == Scaling::nvfp4 ? values * tensor_scale_inv : values;
}

std::optional<QuantizedTensor::Bf16Values> QuantizedTensor::in_bf16() const {
  if (scaling == Scaling::fp32 && scale_inv.numel() == 1) {
    return Bf16Values{expand<c10::BFloat16>(*this, at::ones({1, 1}, at::kFloat)),
                      scale_inv.item<float>()};
  }
  const at::Tensor scales = block_scales(*this);
  if (scaling == Scaling::fp32 && !are_powers_of_two(scales)) return std::nullopt;
  return Bf16Values{expand<c10::BFloat16>(*this, scales),
                    scaling == Scaling::nvfp4 ? tensor_scale_inv : 1.0f};
}

}  // namespace megatron
