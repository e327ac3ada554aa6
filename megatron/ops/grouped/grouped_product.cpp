// The grouped products x weight^T and grad_y weight: one list of tasks over (expert, rows, panels of
// columns).
//
// A task of many rows packs one panel of its expert's weight after the other and multiplies all of its
// rows by it, so the rows of an expert share the packing; while it multiplies, it prefetches the next
// panel. A task of few rows reads the weight in place. Either way, a block of sums passes through an
// epilogue (bias, activation, probabilities) while it is in the first-level cache.
#include "megatron/ops/grouped/grouped_product.h"

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/grouped/block_kernel.h"
#include "megatron/ops/grouped/grouped_packing_kernels.h"
#include "megatron/ops/grouped/task_list.h"
#include "megatron/ops/grouped/tile_kernels.h"
#include "megatron/ops/grouped/weighted_activation_kernels.h"
#include "megatron/ops/matmul/block_gemm.h"

namespace megatron::grouped {

namespace {

using kernels::kGroupedPanel;
using kernels::kTileColumns;
using lanes::accumulation_t;

// Experts of fewer rows read their weights in place: packing would take longer than it saves
// (grouped_gemm_benchmark).
constexpr int64_t kFewRows = 24;
// A multiple of every register tile's rows. Its sums, 64 columns wide, stay in the first-level cache.
constexpr int64_t kBlockRows = 48;
// Rows that share a packed panel, if an expert has very many.
constexpr int64_t kMaxTaskRows = 1024, kMinTaskRows = 96;
// Panels of a task.
constexpr int64_t kMaxTaskPanels = 8;
// Rows of a plain weight that a task of few rows goes through at a time.
constexpr int64_t kFewRowsDepth = 64;
// Columns of a task of the bias gradient.
constexpr int64_t kBiasColumns = 256;

// A range of columns of the product.
struct ColumnRun {
  int64_t first = 0, size = 0;
};

// The operands. The weight of expert i is a matrix [weight_rows, weight_columns] at weight + i *
// weight_rows * weight_columns; it is transposed if `transposed`. If `gated`, a panel holds
// kTileColumns columns of the first half of the product's columns and those of the second half.
template <typename T>
struct ProductOperands {
  const ExpertRows& rows;
  const T* left;  // [t, depth]
  const T* weight;
  int64_t weight_rows, weight_columns;
  bool transposed, gated;

  int64_t depth() const { return transposed ? weight_columns : weight_rows; }
  int64_t columns() const { return transposed ? weight_rows : weight_columns; }
  int64_t panels() const {
    return gated ? ceil_div(columns() / 2, kTileColumns) : ceil_div(columns(), kGroupedPanel);
  }
  // The columns in the two halves of a panel.
  std::array<ColumnRun, 2> halves(int64_t panel) const {
    const auto run = [](int64_t first, int64_t end) {
      return ColumnRun{first, std::clamp<int64_t>(end - first, 0, kTileColumns)};
    };
    if (gated) {
      const int64_t half = columns() / 2, first = panel * kTileColumns;
      return {run(first, half), run(half + first, columns())};
    }
    const int64_t first = panel * kGroupedPanel;
    return {run(first, columns()), run(first + kTileColumns, columns())};
  }
  const T* weight_of(int64_t expert) const {
    return weight + expert * weight_rows * weight_columns;
  }
};

struct ProductTask {
  int64_t expert, row, rows, panel, panels;  // the row is global
};

template <typename T>
struct ProductScratch {
  using A = accumulation_t<T>;
  ProductScratch(int64_t sums_size, int64_t panel_size)
      : memory(at::zeros({static_cast<int64_t>(sums_size * sizeof(A) + panel_size * sizeof(T))},
                         at::kByte)),
        sums(reinterpret_cast<A*>(memory.mutable_data_ptr<uint8_t>())),
        panel(reinterpret_cast<T*>(sums + sums_size)) {}
  at::Tensor memory;
  A* sums;
  T* panel;
};

// Epilogue: called with (expert, row, rows, panel, sums, stride) for each block of sums, whose columns
// are those of ProductOperands::halves, the second half kTileColumns to the right of the first.
template <typename T, typename Epilogue>
class GroupedProduct {
 public:
  using A = accumulation_t<T>;

  GroupedProduct(const ProductOperands<T>& operands, BlockKernel kernel, const Epilogue& epilogue)
      : operands_(operands),
        epilogue_(epilogue),
        depth_(operands.depth()),
        brgemm_(use_brgemm<T>(kernel) && depth_ % 2 == 0 && depth_ > 0) {}

  void run() {
    make_tasks();
    run_tasks(
        static_cast<int64_t>(tasks_.size()), [&] { return make_scratch(); },
        [&](int64_t index, ProductScratch<T>& scratch) {
          const ProductTask& task = tasks_[index];
          if (operands_.rows.size(task.expert) >= kFewRows) {
            multiply_many_rows(task, scratch);
          } else if (operands_.transposed) {
            multiply_few_rows_transposed(task, scratch);
          } else {
            multiply_few_rows(task, scratch);
          }
        });
  }

 private:
  // The longest tasks first.
  void make_tasks() {
    const ExpertRows& rows = operands_.rows;
    std::vector<int64_t> order;
    for (int64_t expert = 0; expert < rows.experts(); ++expert) {
      if (rows.size(expert) > 0) order.push_back(expert);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return rows.size(a) > rows.size(b); });
    const int64_t panels = operands_.panels(), wanted = 8 * at::get_num_threads();
    const auto active = static_cast<int64_t>(order.size());
    if (active == 0) return;
    const int64_t group = std::clamp<int64_t>(active * panels / wanted, 1, kMaxTaskPanels);
    // Few panels are divided into tasks of fewer rows.
    const int64_t row_tasks = std::max<int64_t>(1, wanted / std::max<int64_t>(1, active * panels));
    for (const int64_t expert : order) {
      const int64_t size = rows.size(expert);
      const int64_t parts =
          std::max(ceil_div(size, kMaxTaskRows), std::min(ceil_div(size, kMinTaskRows), row_tasks));
      const int64_t part = size < kFewRows ? size : round_up(ceil_div(size, parts), kBlockRows);
      for (int64_t panel = 0; panel < panels; panel += group) {
        for (int64_t row = 0; row < size; row += part) {
          tasks_.push_back({expert, rows.first(expert) + row, std::min(part, size - row), panel,
                            std::min(group, panels - panel)});
        }
      }
    }
    largest_group_ = group;
  }

  ProductScratch<T> make_scratch() const {
    return {std::max(kBlockRows * kGroupedPanel, kFewRows * largest_group_ * kGroupedPanel),
            round_up(depth_, 2) * kGroupedPanel};
  }

  const T* left_of(int64_t row) const { return operands_.left + row * depth_; }

  void multiply_many_rows(const ProductTask& task, const ProductScratch<T>& scratch) const {
    for (int64_t panel = task.panel; panel < task.panel + task.panels; ++panel) {
      pack(task.expert, panel, scratch.panel);
      std::array<kernels::PrefetchRuns, 2> prefetch;
      if (panel + 1 < task.panel + task.panels) prefetch = prefetch_of(task.expert, panel + 1);
      for (int64_t row = task.row; row < task.row + task.rows; row += kBlockRows) {
        const int64_t count = std::min(kBlockRows, task.row + task.rows - row);
        multiply_block(row, count, panel, scratch, prefetch);
        epilogue_(task.expert, row, count, panel, scratch.sums, kGroupedPanel);
      }
    }
    if (brgemm_) block_gemm_release();
  }

  void multiply_block(int64_t row, int64_t count, int64_t panel, const ProductScratch<T>& scratch,
                      std::array<kernels::PrefetchRuns, 2>& prefetch) const {
    if (brgemm_) {
      block_gemm(count, kGroupedPanel, depth_, left_of(row), depth_, scratch.panel, kGroupedPanel,
                 scratch.sums, kGroupedPanel, /*accumulate=*/false);
      return;
    }
    const auto halves = operands_.halves(panel);
    with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
      for (int half = 0; half < 2; ++half) {
        if (halves[half].size == 0) continue;
        kernels::multiply_tiles<level, T, A>(
            count, kTileColumns, depth_, {left_of(row), depth_, kPair},
            {scratch.panel + half * kTileColumns * kPair, kGroupedPanel, /*packed=*/true},
            scratch.sums + half * kTileColumns, kGroupedPanel, /*accumulate=*/false,
            prefetch[half]);
      }
    });
  }

  void pack(int64_t expert, int64_t panel, T* to) const {
    const auto halves = operands_.halves(panel);
    const T* weight = operands_.weight_of(expert);
    with_kernel_level([&](auto level) {
      for (int half = 0; half < 2; ++half) {
        T* place = to + half * kTileColumns * kPair;
        if (halves[half].size == 0) continue;
        if (operands_.transposed) {
          kernels::pack_rows_as_panel<level, T>(
              halves[half].size, depth_, weight + halves[half].first * depth_, depth_, place);
        } else {
          const int64_t stride = operands_.weight_columns;
          kernels::pack_columns_as_panel<level, T>(halves[half].size, depth_,
                                                   weight + halves[half].first, stride, place);
        }
      }
    });
  }

  // The weight of a panel.
  std::array<kernels::PrefetchRuns, 2> prefetch_of(int64_t expert, int64_t panel) const {
    const auto halves = operands_.halves(panel);
    const T* weight = operands_.weight_of(expert);
    std::array<kernels::PrefetchRuns, 2> runs;
    for (int half = 0; half < 2; ++half) {
      if (operands_.transposed) {  // rows of the weight, contiguous
        const int64_t bytes = halves[half].size * depth_ * static_cast<int64_t>(sizeof(T));
        runs[half] = {reinterpret_cast<const char*>(weight + halves[half].first * depth_), 128,
                      bytes / 128, 2};
      } else {  // half of the depth, all columns
        const int64_t first = half * (depth_ / 2), size = half == 0 ? first : depth_ - first;
        const int64_t stride = operands_.weight_columns;
        runs[half] = {reinterpret_cast<const char*>(weight + first * stride + halves[0].first),
                      stride * static_cast<int64_t>(sizeof(T)), size, sizeof(T) == 2 ? 2 : 4};
      }
    }
    return runs;
  }

  void multiply_few_rows_transposed(const ProductTask& task,
                                    const ProductScratch<T>& scratch) const {
    const T* weight = operands_.weight_of(task.expert);
    for (int64_t panel = task.panel; panel < task.panel + task.panels; ++panel) {
      const auto halves = operands_.halves(panel);
      with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
        for (int half = 0; half < 2; ++half) {
          kernels::multiply_by_rows<level, T>(task.rows, halves[half].size, depth_,
                                              left_of(task.row), depth_,
                                              weight + halves[half].first * depth_, depth_,
                                              scratch.sums + half * kTileColumns, kGroupedPanel);
        }
      });
      epilogue_(task.expert, task.row, task.rows, panel, scratch.sums, kGroupedPanel);
    }
  }

  // All columns of the task for a few rows of the weight at a time, so that the weight is read in long
  // runs.
  void multiply_few_rows(const ProductTask& task, const ProductScratch<T>& scratch) const {
    const int64_t stride = operands_.weight_columns, width = task.panels * kGroupedPanel;
    const int64_t first = task.panel * kGroupedPanel, end = std::min(first + width, stride);
    const T* weight = operands_.weight_of(task.expert);
    with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
      for (int64_t d = 0; d < depth_; d += kFewRowsDepth) {
        const int64_t depth = std::min(kFewRowsDepth, depth_ - d);
        for (int64_t column = first; column < end; column += kTileColumns) {
          const int64_t columns = std::min(kTileColumns, end - column);
          const T* from = weight + d * stride + column;
          kernels::TileRight<T> right{from, stride, /*packed=*/false};
          if (columns < kTileColumns) {  // tiles read full vectors
            kernels::pack_columns_as_panel<packing_level(level), T>(columns, depth, from, stride,
                                                                    scratch.panel);
            right = {scratch.panel, kGroupedPanel, /*packed=*/true};
          }
          kernels::PrefetchRuns prefetch;
          if (d + kFewRowsDepth < depth_) {
            prefetch = {reinterpret_cast<const char*>(from + kFewRowsDepth * stride),
                        stride * static_cast<int64_t>(sizeof(T)),
                        std::min(kFewRowsDepth, depth_ - d - kFewRowsDepth),
                        sizeof(T) == 2 ? 1 : 2};
          }
          kernels::multiply_tiles<level, T, A>(
              task.rows, kTileColumns, depth, {left_of(task.row) + d, depth_, kPair}, right,
              scratch.sums + column - first, width, /*accumulate=*/d > 0, prefetch);
        }
      }
    });
    if (depth_ == 0) std::fill_n(scratch.sums, task.rows * width, A(0));
    for (int64_t panel = task.panel; panel < task.panel + task.panels; ++panel) {
      epilogue_(task.expert, task.row, task.rows, panel,
                scratch.sums + (panel - task.panel) * kGroupedPanel, width);
    }
  }

  static constexpr int64_t kPair = std::is_same_v<T, c10::BFloat16> ? 2 : 1;

  const ProductOperands<T>& operands_;
  const Epilogue& epilogue_;
  int64_t depth_;
  bool brgemm_;
  std::vector<ProductTask> tasks_;
  int64_t largest_group_ = 1;
};

template <typename T, typename Epilogue>
void run_product(const ProductOperands<T>& operands, BlockKernel kernel, const Epilogue& epilogue) {
  GroupedProduct<T, Epilogue>(operands, kernel, epilogue).run();
}

// Stores the sums, plus bias_i times the weights of the rows.
template <typename T>
auto store_epilogue(const ProductOperands<T>& operands, T* out, const T* bias,
                    const accumulation_t<T>* row_weights) {
  const int64_t columns = operands.columns();
  return [=](int64_t expert, int64_t row, int64_t rows, int64_t panel,
             const accumulation_t<T>* sums, int64_t stride) {
    const int64_t column = panel * kGroupedPanel;
    with_kernel_level([&](auto level) {
      kernels::store_sums<level, T>(rows, std::min(kGroupedPanel, columns - column), sums, stride,
                                    bias == nullptr ? nullptr : bias + expert * columns + column,
                                    row_weights == nullptr ? nullptr : row_weights + row,
                                    out + row * columns + column, columns);
    });
  };
}

template <typename T>
ProductOperands<T> operands_of(const at::Tensor& left, const ExpertRows& rows,
                               const at::Tensor& weight, bool transposed, bool gated = false) {
  return {.rows = rows,
          .left = left.const_data_ptr<T>(),
          .weight = weight.const_data_ptr<T>(),
          .weight_rows = weight.size(1),
          .weight_columns = weight.size(2),
          .transposed = transposed,
          .gated = gated};
}

const GluOptions* glu_or_null(const ActivationOptions& activation) {
  return activation.glu ? &*activation.glu : nullptr;
}

}  // namespace

void multiply(const at::Tensor& out, const at::Tensor& x, const ExpertRows& rows,
              const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& row_weights,
              BlockKernel kernel) {
  dispatch_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const auto operands = operands_of<T>(x, rows, weight, /*transposed=*/true);
    run_product(operands, kernel,
                store_epilogue<T>(operands, out.mutable_data_ptr<T>(), data_or_null<const T>(bias),
                                  data_or_null<const accumulation_t<T>>(row_weights)));
  });
}

void input_gradient(const at::Tensor& out, const at::Tensor& grad_y, const ExpertRows& rows,
                    const at::Tensor& weight, BlockKernel kernel) {
  dispatch_dtype(grad_y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const auto operands = operands_of<T>(grad_y, rows, weight, /*transposed=*/false);
    run_product(operands, kernel,
                store_epilogue<T>(operands, out.mutable_data_ptr<T>(), nullptr, nullptr));
  });
}

void multiply_and_activate(const at::Tensor& hidden, const at::Tensor& output, const at::Tensor& x,
                           const ExpertRows& rows, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& probs, const ActivationOptions& activation) {
  dispatch_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = accumulation_t<T>;
    const bool gated = activation.glu.has_value();
    const auto operands = operands_of<T>(x, rows, weight, /*transposed=*/true, gated);
    const int64_t w = operands.columns(), f = gated ? w / 2 : w;
    const int64_t panel_columns = gated ? kTileColumns : kGroupedPanel;
    T *hidden_data = hidden.mutable_data_ptr<T>(), *output_data = output.mutable_data_ptr<T>();
    const T* bias_data = data_or_null<const T>(bias);
    const A* prob = data_or_null<const A>(probs);
    const kernels::ActivationFunction function{activation.function, glu_or_null(activation)};
    run_product(operands, BlockKernel::automatic,
                [&](int64_t expert, int64_t row, int64_t count, int64_t panel, const A* sums,
                    int64_t stride) {
                  const int64_t column = panel * panel_columns;
                  const T* expert_bias =
                      bias_data == nullptr ? nullptr : bias_data + expert * w + column;
                  with_kernel_level([&](auto level) {
                    kernels::activation_block_forward<level, T>(
                        function, {.rows = count,
                                   .columns = std::min(panel_columns, f - column),
                                   .sums = sums,
                                   .sums_up = sums + kTileColumns,
                                   .sums_stride = stride,
                                   .bias = expert_bias,
                                   .bias_up = expert_bias == nullptr ? nullptr : expert_bias + f,
                                   .weights = prob == nullptr ? nullptr : prob + row,
                                   .hidden = hidden_data + row * w + column,
                                   .hidden_up = hidden_data + row * w + f + column,
                                   .hidden_stride = w,
                                   .output = output_data + row * f + column,
                                   .output_stride = f});
                  });
                });
  });
}

void input_gradient_and_activation(const at::Tensor& grad_hidden, const at::Tensor& output,
                                   const at::Tensor& grad_probs, const at::Tensor& grad_y,
                                   const ExpertRows& rows, const at::Tensor& weight,
                                   const at::Tensor& hidden, const at::Tensor& probs,
                                   const ActivationOptions& activation) {
  dispatch_dtype(grad_y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = accumulation_t<T>;
    const auto operands = operands_of<T>(grad_y, rows, weight, /*transposed=*/false);
    const int64_t f = operands.columns(), w = activation.glu ? 2 * f : f;
    // The sums of each panel, added up in order at the end.
    const int64_t panels = operands.panels();
    at::Tensor partials;
    if (grad_probs.defined()) partials = at::empty({rows.rows(), panels}, grad_probs.options());
    A* partial = data_or_null<A>(partials);
    const A* prob = data_or_null<const A>(probs);
    const T* hidden_data = hidden.const_data_ptr<T>();
    T *grad_data = grad_hidden.mutable_data_ptr<T>(), *output_data = data_or_null<T>(output);
    const kernels::ActivationFunction function{activation.function, glu_or_null(activation)};
    run_product(
        operands, BlockKernel::automatic,
        [&](int64_t, int64_t row, int64_t count, int64_t panel, const A* sums, int64_t stride) {
          const int64_t column = panel * kGroupedPanel, place = row * w + column;
          with_kernel_level([&](auto level) {
            kernels::activation_block_backward<level, T>(
                function,
                {.rows = count,
                 .columns = std::min(kGroupedPanel, f - column),
                 .gradient = sums,
                 .gradient_stride = stride,
                 .hidden = hidden_data + place,
                 .hidden_up = hidden_data + place + f,
                 .hidden_stride = w,
                 .weights = prob == nullptr ? nullptr : prob + row,
                 .grad_hidden = grad_data + place,
                 .grad_hidden_up = grad_data + place + f,
                 .output = output_data == nullptr ? nullptr : output_data + row * f + column,
                 .output_stride = f,
                 .grad_weights = partial == nullptr ? nullptr : partial + row * panels + panel,
                 .grad_weights_stride = panels});
          });
        });
    if (partial == nullptr) return;
    A* sums = grad_probs.mutable_data_ptr<A>();
    for (int64_t row = 0; row < rows.rows(); ++row) {
      sums[row] = std::accumulate(partial + row * panels, partial + (row + 1) * panels, A(0));
    }
  });
}

void bias_gradient(const at::Tensor& out, const at::Tensor& grad_y, const ExpertRows& rows,
                   const at::Tensor& row_weights) {
  dispatch_dtype(grad_y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = accumulation_t<T>;
    const int64_t columns = grad_y.size(1), parts = ceil_div(columns, kBiasColumns);
    const A* weights = data_or_null<const A>(row_weights);
    run_tasks(
        rows.experts() * parts, [] { return std::array<A, kBiasColumns>(); },
        [&](int64_t task, std::array<A, kBiasColumns>& sums) {
          const int64_t expert = task / parts, column = task % parts * kBiasColumns;
          const int64_t count = std::min(kBiasColumns, columns - column), row = rows.first(expert);
          with_kernel_level([&](auto level) {
            kernels::sum_weighted_rows<level, T>(
                rows.size(expert), count, grad_y.const_data_ptr<T>() + row * columns + column,
                columns, weights == nullptr ? nullptr : weights + row, sums.data());
            kernels::store_sums<level, T>(1, count, sums.data(), kBiasColumns, nullptr, nullptr,
                                          out.mutable_data_ptr<T>() + expert * columns + column,
                                          columns);
          });
        });
  });
}

}  // namespace megatron::grouped
