#include "megatron/precision/quantized_product.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/ops/matmul/bf16_matmul.h"

namespace megatron {

ProductOperand::ProductOperand(const QuantizedTensor& x, bool transposed) {
  if (auto exact = x.in_bf16()) {
    values_ = std::move(exact->values);
    factor_ = exact->factor;
  } else {
    values_ = x.dequantize();
  }
  if (transposed) values_ = values_.t();
}

ProductOperand ProductOperand::transposed() const {
  ProductOperand result = *this;
  result.values_ = values_.t();
  return result;
}

at::Tensor quantized_product(const ProductOperand& a, const ProductOperand& b) {
  const at::Tensor right = b.values_.t();
  const float factor = a.factor_ * b.factor_;
  at::Tensor product;
  if (right.scalar_type() == at::kBFloat16 && can_use_bf16_matmul(a.values_, right)) {
    product = at::zeros({a.values_.size(0), right.size(1)}, at::kFloat);
    bf16_matmul(product, a.values_, right, /*bias=*/{}, Bf16MatmulEpilogue::accumulate_fp32);
  } else {
    product = at::mm(a.values_.to(at::kFloat), right.to(at::kFloat));
  }
  if (factor == 1) return product;
  if (std::isnormal(factor)) return product.mul_(factor);
  return product.mul_(a.factor_).mul_(b.factor_);  // each alone is in range
}

at::Tensor quantized_product(const QuantizedTensor& a, const QuantizedTensor& b) {
  return quantized_product(ProductOperand(a), ProductOperand(b));
}

}  // namespace megatron
