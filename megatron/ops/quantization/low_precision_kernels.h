// The interface of the kernels that quantize to low precision: plain pointers. T is float, bf16 or
// fp16; matrices are row-major and contiguous.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/quantization/low_precision_format.h"
#include "megatron/ops/quantization/scale_rules.h"

namespace megatron::kernels {

// The shape of a matrix and of the blocks that share a scale.
struct BlockedShape {
  int64_t rows = 0, columns = 0;
  int64_t block_rows = 1, block_columns = 1;
};

// How a block's scale follows from its amax, and where it is written: one element per block,
// row-major over [ceil(rows / block_rows), ceil(columns / block_columns)].
struct BlockScale {
  enum class Kind { fp32, e8m0, nvfp4 } kind = Kind::fp32;
  LowPrecisionFormat format = LowPrecisionFormat::e4m3;  // of the elements
  Fp32ScaleRule rule;                                    // fp32
  float scale_if_infinite = 0;                           // fp32: the largest value of x's dtype
  float tensor_scale = 1;                                // nvfp4
  void* scales = nullptr;  // fp32: float, the inverse scale; others: uint8 codes
};

// Stochastic rounding of element (row, column) draws word (first_column + column) % 4 of the Philox
// block with the counter ((first_column + column) / 4, row low, row high, 0) and this key.
struct StochasticDraws {
  bool enabled = false;
  uint32_t key0 = 0, key1 = 0;
  int64_t first_row = 0, first_column = 0;  // of the matrix in the tensor that it is a shard of
};

// What happened to the elements of a tensor.
struct QuantizationCounts {
  int64_t saturated = 0;    // would have rounded beyond the largest value
  int64_t underflowed = 0;  // became 0 and were not
};

// The largest magnitude; NaN if there is one, 0 for n = 0.
template <KernelLevel level, typename T>
float absolute_max(const T* x, int64_t n);

// codes[i] = the code of x[i] * scale. `counts` may be null; it is of e4m3, e5m2 and e2m1.
template <KernelLevel level, typename T>
void cast_to_codes(const T* x, int64_t n, float scale, LowPrecisionFormat format,
                   CastOverflow overflow, uint8_t* codes, QuantizationCounts* counts = nullptr);

template <KernelLevel level>
void decode_codes(const uint8_t* codes, int64_t n, LowPrecisionFormat format, float* values);

// values[row, column] = the value of its code * the scale of its block, in fp32 and then rounded to T
// (float or bf16). Codes and scales are laid out as quantize_blocks writes them, the scales as floats.
template <KernelLevel level, typename T>
void expand_codes(const uint8_t* codes, const BlockedShape& shape, LowPrecisionFormat format,
                  const float* scales, T* values);

// Writes the codes and scales of all blocks. Codes are [rows, columns], or for e2m1 two to a byte,
// [rows, columns / 2], the even column in the low half.
template <KernelLevel level, typename T>
void quantize_blocks(const T* x, const BlockedShape& shape, const BlockScale& scale,
                     const StochasticDraws& draws, uint8_t* codes, QuantizationCounts& counts);

// Every run of 16 elements, times diag(signs) H / 4. n is a multiple of 16.
template <KernelLevel level, typename T>
void hadamard_transform(const T* x, int64_t n, T* out);

}  // namespace megatron::kernels
