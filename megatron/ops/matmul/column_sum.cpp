// Column sums: checks, allocation and dispatch.
#include "megatron/ops/matmul/column_sum.h"

#include <ATen/ATen.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

at::Tensor make_partial_sums(const RowBlocks& blocks, int64_t columns, const at::Tensor& x) {
  return at::empty({blocks.count, columns}, x.options().dtype(accumulation_dtype(x.scalar_type())));
}

at::Tensor reduce_partial_sums(const at::Tensor& partials, at::ScalarType dtype) {
  at::Tensor out = at::empty({partials.size(1)}, partials.options());
  if (partials.scalar_type() == at::kDouble) {
    with_kernel_level([&](auto level) {
      kernels::sum_partials<level>(partials.const_data_ptr<double>(), partials.size(0),
                                   partials.size(1), out.mutable_data_ptr<double>());
    });
  } else {
    with_kernel_level([&](auto level) {
      kernels::sum_partials<level>(partials.const_data_ptr<float>(), partials.size(0),
                                   partials.size(1), out.mutable_data_ptr<float>());
    });
  }
  return out.to(dtype);
}

at::Tensor column_sum(const at::Tensor& x) {
  check_floating(x, "column_sum", "x");
  check(x.dim() >= 1, "column_sum: Expected x of at least 1 dimension, but got a scalar");
  const at::Tensor rows = flatten_rows(x.detach());
  if (!use_cpu_kernel_or_half(rows)) {
    return rows.sum(0, /*keepdim=*/false, accumulation_dtype(x.scalar_type())).to(x.scalar_type());
  }
  const RowBlocks blocks = row_blocks(rows.size(0));
  at::Tensor partials = make_partial_sums(blocks, rows.size(1), rows);
  dispatch_dtype_or_half(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::partial_column_sums<level>(rows.const_data_ptr<T>(), rows.size(1), blocks,
                                          partials.mutable_data_ptr<A>());
    });
  });
  return reduce_partial_sums(partials, x.scalar_type());
}

}  // namespace megatron
