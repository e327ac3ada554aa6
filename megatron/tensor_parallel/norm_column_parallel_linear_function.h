// The autograd function of a norm fused with the column-parallel linear layer that consumes it: one
// node for the norm, the communication and the matmul, forward and backward.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/ops/norm_linear.h"
#include "megatron/tensor_parallel/column_parallel_steps.h"

namespace megatron {

struct NormColumnParallelOutput {
  at::Tensor output;  // [s, b, out_p]
  at::Tensor normed;  // x's shape; undefined unless asked for
};

// y = norm(x) weight^T (+ bias). x [s, b, in], the same on all ranks, or [s/tp, b, in] with
// sequence parallelism, in the weights' dtype or wider; norm_weight and norm_bias [in] (no bias with
// rms); weight [out_p, in]; bias [out_p] or undefined. With sequence parallelism each rank
// normalizes its shard, and the shards are gathered.
//
// Keeps x and the statistics of its rows, not the normalized activations: backward normalizes again
// for the weight gradient. Weight gradients, their deferral and the overlap of communication are
// those of column_parallel_linear(). With `returns_normed` the node has norm(x) as a second output.
NormColumnParallelOutput norm_column_parallel_linear(
    const at::Tensor& x, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
    const Parameter& weight, const at::Tensor& bias, const NormLinearOptions& options,
    const ColumnParallelCommunication& communication, bool returns_normed);

}  // namespace megatron
