// Column sums in an order that depends on the shape alone: rows are summed in blocks, then the
// blocks' partial sums in order, so the result does not depend on the number of threads. Kernels
// that already read the rows write the partial sums themselves.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/ops/matmul/column_sum_kernels.h"

namespace megatron {

// The sum over all dimensions but the last, accumulated in accumulation_dtype: x [..., h] -> [h] in
// x's dtype.
at::Tensor column_sum(const at::Tensor& x);

// [blocks.count, columns] in accumulation_dtype(x), uninitialised.
at::Tensor make_partial_sums(const RowBlocks& blocks, int64_t columns, const at::Tensor& x);

// Adds up the blocks in order -> [columns] in `dtype`.
at::Tensor reduce_partial_sums(const at::Tensor& partials, at::ScalarType dtype);

}  // namespace megatron
