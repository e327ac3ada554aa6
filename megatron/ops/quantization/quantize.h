// Quantizers of matrices, as the FP8 and NVFP4 recipes of Transformer Engine define them. All take x
// [m, k] of fp32, bf16 or fp16 on the CPU, run on the intra-op threads, compute in fp32, round to
// nearest even unless stated, saturate, and throw Error for other dtypes, devices and shapes. A last
// block may be partial: it counts as padded with zeros. NaN stays NaN where the format has it. A tensor
// and its transpose are quantized apart, each from the high-precision values.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/ops/quantization/low_precision_format.h"
#include "megatron/ops/quantization/quantized_tensor.h"
#include "megatron/ops/quantization/scale_rules.h"

namespace megatron {

// The largest magnitude of x (any shape); NaN if x has one, 0 if x is empty.
float absolute_max(const at::Tensor& x);

// With a given scale (delayed scaling): code = cast(x * scale), scale_inv = 1 / scale. Throws Error
// unless the scale is positive and finite.
QuantizedTensor quantize_with_scale(const at::Tensor& x, LowPrecisionFormat format, float scale);

// Current scaling ("tensorwise"): one scale from the amax of the matrix, or from `amax`, that of the
// whole tensor of which x is a part.
QuantizedTensor quantize_tensorwise(const at::Tensor& x, LowPrecisionFormat format,
                                    const Fp32ScaleRule& rule = {},
                                    std::optional<float> amax = std::nullopt);

// An fp32 scale per block: 1 x 128 for activations and gradients, 128 x 128 for weights.
QuantizedTensor quantize_blockwise(const at::Tensor& x, LowPrecisionFormat format,
                                   int64_t block_rows, int64_t block_columns,
                                   const Fp32ScaleRule& rule = {.power_of_two = true});

// MXFP8: an e8m0 scale per 1 x 32 elements, or per 32 x 32.
QuantizedTensor quantize_mxfp8(const at::Tensor& x, LowPrecisionFormat format,
                               int64_t block_rows = 1);

// Which random numbers stochastic rounding draws. They are a function of the seed, the name and the
// element's row and column in the whole tensor, so that they do not depend on how it is sharded.
struct StochasticRounding {
  uint64_t key = 0;                         // hash_name(seed, name) of ops/random/philox.h
  int64_t first_row = 0, first_column = 0;  // of x in the whole tensor
};

// NVFP4: e2m1 with an e4m3 scale per 1 x 16 elements (activations, gradients) or 16 x 16 (weights),
// and an fp32 scale per tensor, from its amax or from `amax` of the whole tensor. k must be even. With `rounding`, an element goes to its upper
// neighbour with the probability of its distance to the lower one.
QuantizedTensor quantize_nvfp4(const at::Tensor& x, int64_t block_rows = 1,
                               const std::optional<StochasticRounding>& rounding = std::nullopt,
                               std::optional<float> amax = std::nullopt);

// Random Hadamard transform: every run of 16 elements of x's last dimension, a multiple of 16, times
// diag(signs) H / 4 with Sylvester's H and Transformer Engine's fixed signs; computed in fp32 and
// rounded to x's dtype. The matrix is orthogonal, so that products of two transformed operands along
// that dimension keep their value.
at::Tensor random_hadamard_transform(const at::Tensor& x);

}  // namespace megatron
