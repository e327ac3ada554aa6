// Products of quantized matrices: the codes are read back exactly, and the products summed in fp32.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/quantization/quantized_tensor.h"

namespace megatron {

// A quantized matrix as an operand of several products: its values, and whether it is read transposed.
class ProductOperand {
 public:
  // [m, k]; with `transposed` the operand is [k, m].
  explicit ProductOperand(const QuantizedTensor& x, bool transposed = false);

  ProductOperand transposed() const;

 private:
  friend at::Tensor quantized_product(const ProductOperand& a, const ProductOperand& b);
  at::Tensor values_;  // bf16, or fp32 where bf16 does not have them
  float factor_ = 1;   // of the product
};

// a [m, k], b [n, k] -> fp32 [m, n] = a b^T. Where bf16 has the values of both (every recipe but
// blockwise without power-of-two scales) and the processor has bf16 instructions, they are expanded
// to bf16 and multiplied there; the products are exact, the sums fp32, and scales of whole tensors
// multiply the sums. Otherwise in fp32.
at::Tensor quantized_product(const ProductOperand& a, const ProductOperand& b);
at::Tensor quantized_product(const QuantizedTensor& a, const QuantizedTensor& b);

}  // namespace megatron
