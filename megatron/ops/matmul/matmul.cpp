#include "megatron/ops/matmul/matmul.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/matmul/block_gemm.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron {

namespace {

using c10::BFloat16;
using kernels::kPanelColumns;

// A panel and a block of left's rows of this depth share the second-level cache.
constexpr int64_t kProductDepth = 1024, kProductRows = 64;
// A panel is packed once for that many rows: the packing is then some percent of the work.
constexpr int64_t kMostRowsOfGroup = 1024, kLeastRowsOfGroup = 128;
// Below, packing costs more than libtorch's own way (measured).
constexpr int64_t kLeastRows = 16;

int64_t parts(int64_t size, int64_t part) {
  return (size + part - 1) / part;
}

bool use_blocks(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right) {
  return left.is_cpu() && left.scalar_type() == at::kBFloat16 && left.size(0) >= kLeastRows &&
         left.size(1) > 0 && left.size(1) % 2 == 0 && right.size(1) > 0 && left.stride(1) == 1 &&
         left.stride(0) >= left.size(1) && (right.stride(1) == 1 || right.stride(0) == 1) &&
         out.stride(1) == 1 && has_fast_bf16_gemm();
}

// A product of bf16 as tasks, each some rows by one panel of columns.
class BlockedProduct {
 public:
  BlockedProduct(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                 const at::Tensor& bias)
      : m_(left.size(0)),
        n_(right.size(1)),
        k_(left.size(1)),
        left_(left.const_data_ptr<BFloat16>()),
        right_(right.const_data_ptr<BFloat16>()),
        bias_(data_or_null<const BFloat16>(bias)),
        out_(out.data_ptr<BFloat16>()),
        left_stride_(left.stride(0)),
        right_stride_(right.stride(1) == 1 ? right.stride(0) : right.stride(1)),
        out_stride_(out.stride(0)),
        right_transposed_(right.stride(1) != 1) {}

  void run() const {
    const int64_t panels = parts(n_, kPanelColumns);
    // Few panels are shared by several threads, each with rows of its own.
    const int64_t wanted = parts(4 * at::get_num_threads(), panels);
    const int64_t most_groups =
        std::max(parts(m_, kMostRowsOfGroup), std::min(parts(m_, kLeastRowsOfGroup), wanted));
    const int64_t group_rows = parts(parts(m_, most_groups), kProductRows) * kProductRows;
    const int64_t groups = parts(m_, group_rows);
    parallel_for(0, panels * groups, 1, [&](int64_t first, int64_t last) {
      const auto options = at::TensorOptions().dtype(at::kBFloat16);
      const at::Tensor panel = at::empty({std::min(k_, kProductDepth) * kPanelColumns}, options);
      const int64_t sum_rows = k_ > kProductDepth ? group_rows : kProductRows;
      const at::Tensor sums = at::empty({sum_rows * kPanelColumns}, at::kFloat);
      for (int64_t task = first; task < last; ++task) {
        const int64_t row = task % groups * group_rows;
        multiply(row, std::min(row + group_rows, m_), task / groups * kPanelColumns,
                 panel.data_ptr<BFloat16>(), sums.data_ptr<float>());
      }
      block_gemm_release();
    });
  }

 private:
  // out[first .. last, column .. column + kPanelColumns]
  void multiply(int64_t first, int64_t last, int64_t column, BFloat16* panel, float* sums) const {
    const int64_t columns = std::min(kPanelColumns, n_ - column);
    const BFloat16* bias = bias_ == nullptr ? nullptr : bias_ + column;
    for (int64_t at = 0; at < k_; at += kProductDepth) {
      const int64_t depth = std::min(kProductDepth, k_ - at);
      const bool complete = at + depth == k_;
      if (right_transposed_) {
        kernels::pack_panel_transposed(depth, columns, right_ + column * right_stride_ + at,
                                       right_stride_, panel);
      } else {
        kernels::pack_panel(depth, columns, right_ + at * right_stride_ + column, right_stride_,
                            panel);
      }
      for (int64_t row = first; row < last; row += kProductRows) {
        const int64_t rows = std::min(kProductRows, last - row);
        float* block = k_ > kProductDepth ? sums + (row - first) * kPanelColumns : sums;
        block_gemm(rows, columns, depth, left_ + row * left_stride_ + at, left_stride_, panel,
                   kPanelColumns, block, kPanelColumns, /*accumulate=*/at > 0);
        if (!complete) continue;
        kernels::narrow_block(rows, columns, block, kPanelColumns, bias,
                              out_ + row * out_stride_ + column, out_stride_);
      }
    }
  }

  int64_t m_, n_, k_;
  const BFloat16 *left_, *right_, *bias_;
  BFloat16* out_;
  int64_t left_stride_, right_stride_, out_stride_;
  bool right_transposed_;
};

}  // namespace

void matmul_out(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                  const at::Tensor& bias) {
  constexpr std::string_view operation = "matmul";
  check_floating(left, operation, "left");
  check_alike(right, left, operation, "right");
  check_alike(out, left, operation, "out");
  check(left.dim() == 2 && right.dim() == 2 && left.size(1) == right.size(0),
        "{}: Expected left [m, k] and right [k, n], but got [{}] and [{}]", operation,
        fmt::join(left.sizes(), ", "), fmt::join(right.sizes(), ", "));
  check_shape(out, {left.size(0), right.size(1)}, operation, "out");
  if (bias.defined()) {
    check_alike(bias, left, operation, "bias");
    check_shape(bias, {right.size(1)}, operation, "bias");
  }
  const at::NoGradGuard no_grad;
  at::Tensor target = out;
  if (use_blocks(out, left, right) && (!bias.defined() || bias.is_contiguous())) {
    BlockedProduct(out, left, right, bias).run();
  } else if (bias.defined()) {
    at::addmm_out(target, bias, left, right);
  } else {
    at::mm_out(target, left, right);
  }
}

at::Tensor matmul(const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias) {
  check(left.dim() == 2 && right.dim() == 2,
        "matmul: Expected matrices, but got tensors of {} and {} dimensions", left.dim(),
        right.dim());
  const at::Tensor out =
      at::empty({left.size(0), right.size(1)}, left.options().requires_grad(false));
  matmul_out(out, left, right, bias);
  return out;
}

}  // namespace megatron
