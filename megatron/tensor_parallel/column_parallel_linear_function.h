// The autograd function of a column-parallel linear layer, including its communication. One node
// for both lets backward overlap the reduction of the input gradient with the matmul of the weight
// gradient (Megatron's LinearWithGradAccumulationAndAsyncCommunication, or LinearWithFrozenWeight
// if the weight requires no gradient).
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/tensor_parallel/column_parallel_steps.h"

namespace megatron {

// x [s, b, in], the same on all ranks, or [s/tp, b, in] with sequence parallelism; weight
// [out_p, in]; bias [out_p] or undefined -> [s, b, out_p] = x weight^T (+ bias).
//
// Backward starts the all-reduce of x's gradient over the ranks (with sequence parallelism: the
// reduce-scatter), computes the weight gradient, then waits. An all-gather of the input in backward
// overlaps with the matmul of x's gradient. The weight gradient is accumulated into
// weight.main_grad if that is defined, as in linear(). A weight that requires no gradient costs no
// matmul and saves no input. The group and `deferred` must outlive the graph.
at::Tensor column_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                  const at::Tensor& bias,
                                  const ColumnParallelCommunication& communication);

}  // namespace megatron
