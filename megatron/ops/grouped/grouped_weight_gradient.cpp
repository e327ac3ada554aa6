// The grouped weight gradient grad_y^T x: one list of tasks over (expert, strips of the weight's rows).
//
// A strip is as high as a register tile. For each, a task goes over the columns; the gradient of the
// weight passes through registers once for all rows of the expert (once in kBlockDepth rows, if it has
// more), and the next tile's place is prefetched while this one is multiplied.
#include <algorithm>
#include <type_traits>
#include <vector>

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/grouped/block_kernel.h"
#include "megatron/ops/grouped/grouped_packing_kernels.h"
#include "megatron/ops/grouped/grouped_product.h"
#include "megatron/ops/grouped/task_list.h"
#include "megatron/ops/grouped/tile_kernels.h"
#include "megatron/ops/matmul/block_gemm.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron::grouped {

namespace {

using kernels::kGroupedPanel;
using kernels::kTileColumns;

// Rows whose products are added up in registers. Half a panel of so many stays in the second-level cache.
constexpr int64_t kBlockDepth = 1024;
constexpr int64_t kStripScratchBytes = 256 * 1024, kMaxStrips = 8;
// With fewer rows the gradient's way from memory is the bottleneck, which tiles prefetch.
constexpr int64_t kMinBrgemmRows = 128, kBrgemmStrip = 64;

template <typename T>
struct GradientOperands {
  const ExpertRows& rows;
  const T *grad_y, *x;  // [t, n], [t, k]
  int64_t n, k;
};

struct StripTask {
  int64_t expert, first, end;  // rows of the weight
};

template <typename T, typename C>
class GroupedWeightGradient {
 public:
  GroupedWeightGradient(const GradientOperands<T>& operands, C* gradient, bool accumulate,
                        BlockKernel kernel)
      : in_(operands),
        gradient_(gradient),
        accumulate_(accumulate),
        brgemm_(std::is_same_v<C, float> && use_brgemm<T>(kernel)) {
    tile_ = with_kernel_level<KernelLevel::avx512_bf16>(
        [](auto level) { return kernels::tile_rows<level, T>(); });
  }

  void run() {
    pack_x();
    make_tasks();
    run_tasks(
        static_cast<int64_t>(tasks_.size()),
        [&] { return at::empty({largest_scratch_}, c10::CppTypeToScalarType<T>::value); },
        [&](int64_t index, at::Tensor& scratch) {
          const StripTask& task = tasks_[index];
          T* left = scratch.mutable_data_ptr<T>();
          if constexpr (std::is_same_v<T, c10::BFloat16> && std::is_same_v<C, float>) {
            if (runs_brgemm(task.expert)) return multiply_by_brgemm(task, left);
          }
          multiply(task, left);
        });
  }

 private:
  static constexpr int64_t kPair = std::is_same_v<T, c10::BFloat16> ? 2 : 1;

  // An even number, if T is packed in pairs.
  int64_t padded_rows(int64_t expert) const { return round_up(in_.rows.size(expert), kPair); }
  int64_t panels() const { return ceil_div(in_.k, kGroupedPanel); }
  bool runs_brgemm(int64_t expert) const {
    return brgemm_ && in_.rows.size(expert) >= kMinBrgemmRows;
  }
  int64_t strip_rows(int64_t expert) const { return runs_brgemm(expert) ? kBrgemmStrip : tile_; }

  // x as panels of all rows of an expert: they are read by every strip.
  void pack_x() {
    offsets_.push_back(0);
    for (int64_t expert = 0; expert < in_.rows.experts(); ++expert) {
      offsets_.push_back(offsets_.back() + padded_rows(expert) * panels() * kGroupedPanel);
    }
    packed_ = at::empty({offsets_.back()}, c10::CppTypeToScalarType<T>::value);
    T* to = packed_.template mutable_data_ptr<T>();
    run_tasks(
        in_.rows.experts() * panels(), [] { return 0; },
        [&](int64_t task, int) {
          const int64_t expert = task / panels(), column = task % panels() * kGroupedPanel;
          with_kernel_level([&](auto level) {
            kernels::pack_columns_as_panel<level, T>(
                std::min(kGroupedPanel, in_.k - column), in_.rows.size(expert),
                in_.x + in_.rows.first(expert) * in_.k + column, in_.k,
                to + offsets_[expert] + column * padded_rows(expert));
          });
        });
  }

  void make_tasks() {
    std::vector<int64_t> order;
    for (int64_t expert = 0; expert < in_.rows.experts(); ++expert) {
      if (in_.rows.size(expert) > 0 || !accumulate_) order.push_back(expert);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return in_.rows.size(a) > in_.rows.size(b); });
    const int64_t wanted = 8 * at::get_num_threads();
    for (const int64_t expert : order) {
      const int64_t strip = strip_rows(expert), size = padded_rows(expert) * strip;
      const int64_t fits = kStripScratchBytes / static_cast<int64_t>(size * sizeof(T) + 1);
      const int64_t balanced = static_cast<int64_t>(order.size()) * ceil_div(in_.n, strip) / wanted;
      const int64_t strips = std::clamp<int64_t>(std::min(fits, balanced), 1, kMaxStrips);
      largest_scratch_ = std::max(largest_scratch_, strips * size);
      for (int64_t row = 0; row < in_.n; row += strips * strip) {
        tasks_.push_back({expert, row, std::min(row + strips * strip, in_.n)});
      }
    }
  }

  void multiply(const StripTask& task, T* left) const {
    const int64_t rows = in_.rows.size(task.expert), padded = padded_rows(task.expert);
    with_kernel_level([&](auto level) {
      kernels::pack_transposed_tiles<level, T>(
          rows, task.end - task.first, tile_,
          in_.grad_y + in_.rows.first(task.expert) * in_.n + task.first, in_.n, left);
    });
    const T* panels = packed_.template const_data_ptr<T>() + offsets_[task.expert];
    C* gradient = gradient_ + task.expert * in_.n * in_.k;
    // Tiles that are multiplied while a line comes from memory, at some 24 cycles for each pair of rows.
    const int64_t ahead = std::clamp<int64_t>(40 / std::max<int64_t>(1, padded / kPair), 1, 8);
    // A rounded sum is added up in one go.
    const int64_t block = std::is_same_v<C, lanes::accumulation_t<T>> ? kBlockDepth : padded;
    with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
      for (int64_t row = task.first; row < task.end; row += tile_) {
        const int64_t strip = std::min(tile_, task.end - row);
        const T* strip_left = left + (row - task.first) * padded;
        int64_t depth = 0;
        do {
          const int64_t size = std::min(block, padded - depth);
          for (int64_t column = 0; column < in_.k; column += kTileColumns) {
            const int64_t panel = column / kGroupedPanel * kGroupedPanel, half = column - panel;
            C* to = gradient + row * in_.k + column;
            kernels::PrefetchRuns next{reinterpret_cast<const char*>(to + ahead * kTileColumns),
                                       in_.k * static_cast<int64_t>(sizeof(C)), strip,
                                       sizeof(C) == 2 ? 1 : 2};
            if (column + ahead * kTileColumns >= in_.k) {  // the next strip
              next.next += (tile_ - 1) * in_.k * static_cast<int64_t>(sizeof(C));
            }
            kernels::multiply_tiles<level, T, C>(
                strip, std::min(kTileColumns, in_.k - column), size,
                {strip_left + depth * tile_, kPair, kPair * tile_},
                {panels + panel * padded + depth * kGroupedPanel + half * kPair, kGroupedPanel,
                 /*packed=*/true},
                to, in_.k, accumulate_ || depth > 0, next);
          }
          depth += size;
        } while (depth < padded);
      }
    });
  }

  // The matrix unit multiplies the transposed strip, [kBrgemmStrip, rows].
  void multiply_by_brgemm(const StripTask& task, c10::BFloat16* left) const {
    const int64_t rows = in_.rows.size(task.expert), padded = padded_rows(task.expert);
    const int64_t height = task.end - task.first;
    with_kernel_level([&](auto level) {
      kernels::transpose_bf16<level>(rows, height,
                                     in_.grad_y + in_.rows.first(task.expert) * in_.n + task.first,
                                     in_.n, left, padded);
    });
    for (int64_t i = 0; i < height && rows < padded; ++i) left[i * padded + rows] = 0;
    const c10::BFloat16* panels =
        packed_.template const_data_ptr<c10::BFloat16>() + offsets_[task.expert];
    float* gradient = gradient_ + task.expert * in_.n * in_.k;
    for (int64_t row = task.first; row < task.end; row += kBrgemmStrip) {
      for (int64_t depth = 0; depth < padded; depth += kBlockDepth) {
        const int64_t size = std::min(kBlockDepth, padded - depth);
        for (int64_t column = 0; column < in_.k; column += kGroupedPanel) {
          block_gemm(std::min(kBrgemmStrip, task.end - row),
                     std::min(kGroupedPanel, in_.k - column), size,
                     left + (row - task.first) * padded + depth, padded,
                     panels + column * padded + depth * kGroupedPanel, kGroupedPanel,
                     gradient + row * in_.k + column, in_.k, accumulate_ || depth > 0);
        }
      }
    }
    block_gemm_release();
  }

  const GradientOperands<T>& in_;
  C* gradient_;
  bool accumulate_, brgemm_;
  int64_t tile_ = 1;
  at::Tensor packed_;
  std::vector<int64_t> offsets_;  // of each expert's panels in packed_
  std::vector<StripTask> tasks_;
  int64_t largest_scratch_ = 1;
};

}  // namespace

void weight_gradient(const at::Tensor& grad_weight, const at::Tensor& grad_y, const at::Tensor& x,
                     const ExpertRows& rows, bool accumulate, BlockKernel kernel) {
  dispatch_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    const GradientOperands<T> operands{rows, grad_y.const_data_ptr<T>(), x.const_data_ptr<T>(),
                                       grad_y.size(1), x.size(1)};
    if (operands.n == 0 || operands.k == 0) return;
    if (grad_weight.scalar_type() == c10::CppTypeToScalarType<A>::value) {
      GroupedWeightGradient<T, A>(operands, grad_weight.mutable_data_ptr<A>(), accumulate, kernel)
          .run();
    } else if constexpr (!std::is_same_v<T, A>) {
      GroupedWeightGradient<T, T>(operands, grad_weight.mutable_data_ptr<T>(), accumulate, kernel)
          .run();
    }
  });
}

}  // namespace megatron::grouped
