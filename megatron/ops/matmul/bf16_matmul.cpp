#include "megatron/ops/matmul/bf16_matmul.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/matmul/block_gemm.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron {

namespace {

using c10::BFloat16;
using kernels::kPanelColumns;

// A panel of this depth and a block of left's rows fit in the second-level cache together.
constexpr int64_t kBlockDepth = 1024, kBlockRows = 64;
// A panel that one task packs is used for this many rows: packing then costs a few percent.
constexpr int64_t kMaxTaskRows = 1024, kMinTaskRows = 128;

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

bool is_row_major(const at::Tensor& matrix) {
  return matrix.stride(1) == 1 && matrix.stride(0) >= matrix.size(1);
}

bool is_column_major(const at::Tensor& matrix) {
  return matrix.stride(0) == 1 && matrix.stride(1) >= matrix.size(0);
}

// A row-major or column-major matrix; `stride` is the distance of its rows or columns.
struct Bf16Operand {
  explicit Bf16Operand(const at::Tensor& matrix)
      : data(matrix.const_data_ptr<BFloat16>()),
        column_major(!is_row_major(matrix)),
        stride(matrix.stride(column_major ? 1 : 0)) {}
  const BFloat16* at(int64_t row, int64_t column) const {
    return column_major ? data + column * stride + row : data + row * stride + column;
  }

  const BFloat16* data;
  bool column_major;
  int64_t stride;
};

// A thread's buffers for its tasks, in one allocation. The sizes are in elements.
struct Scratch {
  Scratch(int64_t panel_size, int64_t left_size, int64_t sums_size)
      : memory(at::empty({sums_size + (panel_size + left_size) / 2}, at::kFloat)),
        sums(memory.mutable_data_ptr<float>()),
        panel(reinterpret_cast<BFloat16*>(sums + sums_size)),
        left(panel + panel_size) {}

  at::Tensor memory;
  float* sums;      // [rows, kPanelColumns]
  BFloat16* panel;  // [depth / 2, kPanelColumns, 2]
  BFloat16* left;   // [kBlockRows, kBlockDepth]
};

class Bf16Matmul {
 public:
  Bf16Matmul(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
             const at::Tensor& bias, Bf16MatmulEpilogue epilogue)
      : m_(left.size(0)),
        n_(right.size(1)),
        k_(left.size(1)),
        left_(left),
        right_(right),
        out_(out.data_ptr()),
        out_stride_(out.stride(0)),
        bias_(data_or_null<const BFloat16>(bias)),
        epilogue_(epilogue) {}

  // A task multiplies a range of rows by one panel, which it packs itself. Where left is
  // column-major, a task transposes one block of rows, multiplies it by all panels, and so reads
  // panels that were packed beforehand.
  void run() {
    const bool shares_panels = left_.column_major;
    if (shares_panels) pack_right();
    const int64_t panels = ceil_div(n_, kPanelColumns);
    const int64_t task_rows = shares_panels ? kBlockRows : rows_of_task(panels);
    const int64_t task_columns = shares_panels ? panels * kPanelColumns : kPanelColumns;
    const int64_t row_tasks = ceil_div(m_, task_rows);
    parallel_for(0, row_tasks * ceil_div(n_, task_columns), 1, [&](int64_t first, int64_t last) {
      Scratch scratch = make_scratch(task_rows, task_columns);
      for (int64_t task = first; task < last; ++task) {
        const int64_t row = task % row_tasks * task_rows, column = task / row_tasks * task_columns;
        multiply({row, std::min(row + task_rows, m_)},
                 {column, std::min(column + task_columns, n_)}, scratch);
      }
      block_gemm_release();
    });
  }

 private:
  // Few panels are divided into several tasks each.
  int64_t rows_of_task(int64_t panels) const {
    const int64_t wanted = ceil_div(4 * at::get_num_threads(), panels);
    const int64_t row_tasks =
        std::max(ceil_div(m_, kMaxTaskRows), std::min(ceil_div(m_, kMinTaskRows), wanted));
    return round_up(ceil_div(m_, row_tasks), kBlockRows);
  }

  Scratch make_scratch(int64_t task_rows, int64_t task_columns) const {
    const bool shares_panels = packed_.defined();
    const bool stores = epilogue_ == Bf16MatmulEpilogue::store_bf16;
    const int64_t sums = k_ > kBlockDepth ? task_rows * task_columns : kBlockRows * kPanelColumns;
    return {shares_panels ? 0 : std::min(k_, kBlockDepth) * kPanelColumns,
            left_.column_major ? kBlockRows * kBlockDepth : 0, stores ? sums : 0};
  }

  // All panels of right at once, by all threads.
  void pack_right() {
    const int64_t panels = ceil_div(n_, kPanelColumns);
    packed_ = at::empty({panels * kPanelColumns * k_}, at::kBFloat16);
    auto* to = packed_.mutable_data_ptr<BFloat16>();
    parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel) {
        const int64_t column = panel * kPanelColumns;
        pack_panel({column, std::min(column + kPanelColumns, n_)}, {0, k_}, to + column * k_);
      }
    });
  }

  void pack_panel(Range columns, Range depth, BFloat16* to) const {
    with_kernel_level([&](auto level) {
      const auto pack =
          right_.column_major ? kernels::pack_panel_transposed<level> : kernels::pack_panel<level>;
      pack(depth.size(), columns.size(), right_.at(depth.begin, columns.begin), right_.stride, to);
    });
  }

  void multiply(Range rows, Range columns, const Scratch& scratch) const {
    for (int64_t at = 0; at < k_; at += kBlockDepth) {
      const Range depth{at, std::min(at + kBlockDepth, k_)};
      if (!packed_.defined()) pack_panel(columns, depth, scratch.panel);
      for (int64_t row = rows.begin; row < rows.end; row += kBlockRows) {
        const Range block_rows{row, std::min(row + kBlockRows, rows.end)};
        const BFloat16* left = left_.at(row, at);
        int64_t left_stride = left_.stride;
        if (left_.column_major) {
          with_kernel_level([&](auto level) {
            kernels::transpose_bf16<level>(depth.size(), block_rows.size(), left, left_.stride,
                                           scratch.left, kBlockDepth);
          });
          left = scratch.left;
          left_stride = kBlockDepth;
        }
        for (int64_t column = columns.begin; column < columns.end; column += kPanelColumns) {
          const Range block_columns{column, std::min(column + kPanelColumns, columns.end)};
          const BFloat16* panel = packed_.defined() ? packed_panel(column, at) : scratch.panel;
          // Sums of several depths are kept for every block of the task.
          const int64_t block = (row - rows.begin) * ceil_div(columns.size(), kPanelColumns) +
                                (column - columns.begin) * kBlockRows / kPanelColumns;
          float* sums = scratch.sums + (k_ > kBlockDepth ? block * kPanelColumns : 0);
          multiply_block(block_rows, block_columns, depth, left, left_stride, panel, sums);
        }
      }
    }
  }

  const BFloat16* packed_panel(int64_t column, int64_t depth) const {
    return packed_.const_data_ptr<BFloat16>() + column * k_ + depth * kPanelColumns;
  }

  void multiply_block(Range rows, Range columns, Range depth, const BFloat16* left,
                      int64_t left_stride, const BFloat16* panel, float* sums) const {
    const int64_t place = rows.begin * out_stride_ + columns.begin;
    if (epilogue_ == Bf16MatmulEpilogue::accumulate_fp32) {
      block_gemm(rows.size(), columns.size(), depth.size(), left, left_stride, panel, kPanelColumns,
                 static_cast<float*>(out_) + place, out_stride_, /*accumulate=*/true);
      return;
    }
    block_gemm(rows.size(), columns.size(), depth.size(), left, left_stride, panel, kPanelColumns,
               sums, kPanelColumns, /*accumulate=*/depth.begin > 0);
    if (depth.end < k_) return;
    with_kernel_level([&](auto level) {
      kernels::store_bf16_block<level>(rows.size(), columns.size(), sums, kPanelColumns,
                                       bias_ == nullptr ? nullptr : bias_ + columns.begin,
                                       static_cast<BFloat16*>(out_) + place, out_stride_);
    });
  }

  int64_t m_, n_, k_;
  Bf16Operand left_, right_;
  void* out_;
  int64_t out_stride_;
  const BFloat16* bias_;
  Bf16MatmulEpilogue epilogue_;
  at::Tensor packed_;  // all panels of right, [panels, k / 2, kPanelColumns, 2]; or undefined
};

}  // namespace

bool can_use_bf16_matmul(const at::Tensor& left, const at::Tensor& right) {
  return left.is_cpu() && left.scalar_type() == at::kBFloat16 && left.size(1) > 0 &&
         left.size(1) % 2 == 0 && (is_row_major(left) || is_column_major(left)) &&
         (is_row_major(right) || is_column_major(right)) && has_fast_bf16_gemm();
}

void bf16_matmul(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                 const at::Tensor& bias, Bf16MatmulEpilogue epilogue) {
  if (out.numel() > 0) Bf16Matmul(out, left, right, bias, epilogue).run();
}

}  // namespace megatron
