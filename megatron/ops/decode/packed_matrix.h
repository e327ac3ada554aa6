// Weights of a linear layer in the layout that decode streams from memory: packed once, shared by
// all threads, and multiplied with one or many rows by the same sums in the same order.
//
// Runs inside a ThreadTeam, without autograd and without allocations. On the CPU only.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/core/thread_team.h"
#include "megatron/ops/decode/low_bit_product_kernels.h"
#include "megatron/ops/decode/page_buffer.h"
#include "megatron/ops/quantization/int_groups.h"

namespace megatron {

class PackedMatrix {
 public:
  // Half of the outputs are gates, the other half is multiplied with them (activate_glu).
  enum class Kind { plain, glu };

  PackedMatrix() = default;
  // weight [n, k] ([2 n, k] with glu: the gates' rows first) is converted to `dtype`: fp32, bf16 or
  // fp16. bias: as many values as weight has rows, or undefined. Throws Error for other dtypes, and
  // for an odd k in bf16.
  PackedMatrix(const at::Tensor& weight, const at::Tensor& bias, at::ScalarType dtype,
               Kind kind = Kind::plain);

  // Weights of 8 or 4 bits with codes as groups.codes, of any range that has no more codes. They stay
  // integers in products, whose inputs are quantized (quantize_inputs). Throws Error for groups that
  // are neither whole rows nor multiples of 32.
  static PackedMatrix quantized(const IntGroups& groups, int bits, const at::Tensor& bias,
                                Kind kind = Kind::plain);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t bytes() const { return buffer_.bytes(); }
  // Of x and z: bf16 beside bf16 weights, else fp32.
  at::ScalarType input_dtype() const { return dtype_ == at::kBFloat16 ? dtype_ : at::kFloat; }

  // With quantized weights, multiply() takes rows that quantize_inputs() wrote, input_row_bytes() apart.
  bool quantizes_inputs() const { return low_bit_.bits > 0; }
  int64_t input_row_bytes() const { return kernels::low_bit_row_bytes(k_); }
  // This thread's part of x [rows, k] fp32. The caller's barrier comes before multiply().
  void quantize_inputs(const ThreadTeam& team, int64_t rows, const float* x, int64_t x_stride,
                       void* to) const;

  // Computes this thread's part of the product. Sizes, weights and bias are filled in; the caller
  // gives rows, x, the epilogue and the outputs. Neighbouring barriers are the caller's.
  void multiply(const ThreadTeam& team, kernels::PackedProduct product) const;

 private:
  template <typename Body>
  void for_each_part(const ThreadTeam& team, int64_t rows, const Body& body) const;

  int64_t n_ = 0, k_ = 0, panels_ = 0;
  at::ScalarType dtype_ = at::kFloat;
  Kind kind_ = Kind::plain;
  kernels::LowBitFormat low_bit_{.bits = 0};  // 0: weights of dtype_
  PageBuffer buffer_;
  at::Tensor bias_;  // fp32, or undefined
};

}  // namespace megatron
