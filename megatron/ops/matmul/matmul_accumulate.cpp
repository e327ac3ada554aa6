#include "megatron/ops/matmul/matmul_accumulate.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/matmul/block_gemm.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron {

namespace {

// A block of rows of the sum stays in the second-level cache while k goes by.
constexpr int64_t kBlockRows = 64, kBlockDepth = 1024;

bool use_micro_kernel(const at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  return sum.is_cpu() && sum.scalar_type() == at::kFloat && right.scalar_type() == at::kBFloat16 &&
         sum.is_contiguous() && right.stride(1) == 1 && right.size(0) % 2 == 0 &&
         right.size(0) > 0 && (left.stride(0) == 1 || left.stride(1) == 1) && has_fast_bf16_gemm();
}

// A thread's rows of the sum, block by block; k in one order whatever the number of threads.
void add_rows(float* sum, const at::Tensor& left, const c10::BFloat16* panels, int64_t first,
              int64_t last, int64_t n) {
  const int64_t k = left.size(1);
  const auto* values = left.const_data_ptr<c10::BFloat16>();
  const bool transposed = left.stride(1) != 1;
  std::vector<c10::BFloat16> turned(transposed ? kBlockRows * kBlockDepth : 0);
  for (int64_t row = first; row < last; row += kBlockRows) {
    const int64_t rows = std::min(kBlockRows, last - row);
    for (int64_t at = 0; at < k; at += kBlockDepth) {
      const int64_t depth = std::min(kBlockDepth, k - at);
      const c10::BFloat16* block = values + row * left.stride(0) + at * left.stride(1);
      int64_t block_stride = left.stride(0);
      if (transposed) {
        kernels::transpose_bf16(depth, rows, block, left.stride(1), turned.data(), kBlockDepth);
        block = turned.data();
        block_stride = kBlockDepth;
      }
      for (int64_t column = 0; column < n; column += kernels::kPanelColumns) {
        block_gemm(rows, std::min(kernels::kPanelColumns, n - column), depth, block, block_stride,
                   panels + column * k + at * kernels::kPanelColumns, kernels::kPanelColumns,
                   sum + row * n + column, n, /*accumulate=*/true);
      }
    }
  }
  block_gemm_release();
}

void add_bf16_product(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  const int64_t m = sum.size(0), n = sum.size(1), k = right.size(0);
  const int64_t panels = (n + kernels::kPanelColumns - 1) / kernels::kPanelColumns;
  const at::Tensor packed = at::empty({panels * kernels::kPanelColumns * k}, right.options());
  auto* panel_data = packed.mutable_data_ptr<c10::BFloat16>();
  const auto* right_data = right.const_data_ptr<c10::BFloat16>();
  parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
    for (int64_t column = first * kernels::kPanelColumns;
         column < std::min(last * kernels::kPanelColumns, n); column += kernels::kPanelColumns) {
      kernels::pack_panel(k, std::min(kernels::kPanelColumns, n - column), right_data + column,
                          right.stride(0), panel_data + column * k);
    }
  });
  float* data = sum.mutable_data_ptr<float>();
  parallel_for(0, (m + kBlockRows - 1) / kBlockRows, 1, [&](int64_t first, int64_t last) {
    add_rows(data, left, panel_data, first * kBlockRows, std::min(last * kBlockRows, m), n);
  });
}

}  // namespace

void matmul_accumulate(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  constexpr std::string_view operation = "matmul_accumulate";
  check_floating(right, operation, "right");
  check_alike(left, right, operation, "left");
  check(left.dim() == 2 && right.dim() == 2 && left.size(1) == right.size(0),
        "{}: Expected left [m, k] and right [k, n], but got [{}] and [{}]", operation,
        fmt::join(left.sizes(), ", "), fmt::join(right.sizes(), ", "));
  check_shape(sum, {left.size(0), right.size(1)}, operation, "sum");
  const at::Tensor a = left.detach(), b = right.detach();
  at::Tensor target = sum.detach();
  if (target.scalar_type() == b.scalar_type()) {
    target.addmm_(a, b);
  } else if (use_micro_kernel(target, a, b)) {
    add_bf16_product(target, a, b);
  } else if (target.is_cpu() && target.is_contiguous() && target.scalar_type() == at::kFloat &&
             b.scalar_type() == at::kBFloat16) {
    const at::Tensor product = at::mm(a, b).contiguous();
    kernels::add_bf16(target.numel(), product.const_data_ptr<c10::BFloat16>(),
                      target.mutable_data_ptr<float>());
  } else {
    target.add_(at::mm(a, b));
  }
}

}  // namespace megatron
