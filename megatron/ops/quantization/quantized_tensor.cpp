#include "megatron/ops/quantization/quantized_tensor.h"

#include <ATen/ATen.h>

#include "megatron/ops/quantization/casts.h"

namespace megatron {
namespace {

// uint8 [m, k / 2] -> uint8 [m, k].
at::Tensor unpack_nibbles(const at::Tensor& pairs) {
  return at::stack({pairs.bitwise_and(0x0F), pairs.bitwise_right_shift(4)}, -1).flatten(-2);
}

// [blocks of rows, blocks of columns] -> [m, k]: every element's scale.
at::Tensor spread(const at::Tensor& scales, const QuantizedTensor& like) {
  return scales.repeat_interleave(like.block_rows, 0)
      .narrow(0, 0, like.rows)
      .repeat_interleave(like.block_columns, 1)
      .narrow(1, 0, like.columns);
}

}  // namespace

at::Tensor QuantizedTensor::dequantize() const {
  const bool packed = format == LowPrecisionFormat::e2m1;
  const at::Tensor values = decode_codes(packed ? unpack_nibbles(codes) : codes, format);
  switch (scaling) {
    case Scaling::fp32:
      return scale_inv.numel() == 1 ? values * scale_inv : values * spread(scale_inv, *this);
    case Scaling::e8m0:
      return values * spread(decode_codes(scale_inv, LowPrecisionFormat::e8m0), *this);
    case Scaling::nvfp4:
      return values * spread(decode_codes(scale_inv, LowPrecisionFormat::e4m3), *this) *
             tensor_scale_inv;
  }
  return values;
}

}  // namespace megatron
