// A matrix in low precision: codes, scales, and which elements share a scale.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/quantization/low_precision_format.h"

namespace megatron {

// A matrix [m, k]. Element (i, j) is in block (i / block_rows, j / block_columns).
struct QuantizedTensor {
  // How the scales are stored.
  enum class Scaling {
    fp32,   // `scale_inv`: fp32, the inverse scale
    e8m0,   // `scale_inv`: uint8, e8m0 codes (MXFP8)
    nvfp4,  // `scale_inv`: uint8, e4m3 codes, and the tensor's inverse scale in `tensor_scale_inv`
  };

  LowPrecisionFormat format = LowPrecisionFormat::e4m3;
  Scaling scaling = Scaling::fp32;
  int64_t rows = 0, columns = 0;
  int64_t block_rows = 1, block_columns = 1;
  // uint8 [m, k]; e2m1: [m, k / 2], the even column in the low half of a byte.
  at::Tensor codes;
  // [ceil(m / block_rows), ceil(k / block_columns)]: value = decoded code * scale_inv. Scaling per
  // tensor has one block of the matrix's size.
  at::Tensor scale_inv;
  // NVFP4: the largest magnitude of the matrix, and the inverse of its scale: amax / 2688, or 1 where
  // amax is not finite.
  float amax = 0;
  float tensor_scale_inv = 1;

  // Elements that would have rounded beyond the largest value, and that became 0 and were not.
  int64_t saturated = 0, underflowed = 0;

  // The values, fp32 [m, k].
  at::Tensor dequantize() const;

  // The values over a factor, bf16 [m, k], if bf16 has them all exactly: values = bf16 * factor. A
  // scale of the whole tensor is in the factor; scales of blocks are in bf16 where they are powers
  // of two or NVFP4's. nullopt for other scales.
  struct Bf16Values {
    at::Tensor values;
    float factor = 1;
  };
  std::optional<Bf16Values> in_bf16() const;
};

}  // namespace megatron
