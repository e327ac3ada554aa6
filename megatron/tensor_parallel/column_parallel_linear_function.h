// The product of a column-parallel layer with its communication, one autograd node, so that
// backward can hide the exchange of the input's gradient behind the weight's (Megatron's
// LinearWithGradAccumulationAndAsyncCommunication, and LinearWithFrozenWeight where the weight
// requires no gradient).
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group.h"
#include "megatron/tensor_parallel/deferred_weight_gradients.h"

namespace megatron {

struct ColumnParallelCommunication {
  const ProcessGroup* tp = nullptr;
  bool sequence_parallel = false;  // x is this rank's part of the sequence
  bool regathers_input = false;    // backward gathers the sequence again instead of keeping it
  bool overlaps_pieces = false;    // exchanges of the sequence come in pieces
  DeferredWeightGradients* deferred = nullptr;  // takes weight gradients that main_grad waits for
};

// x [s, b, in] (the same on all ranks), or [s/tp, b, in] with sequence parallelism; weight
// [out_p, in], bias [out_p] or undefined -> [s, b, out_p] = x weight^T (+ bias).
//
// Backward starts the sum of x's gradient over the ranks (a reduce-scatter with sequence
// parallelism), computes the weight's gradient meanwhile, and waits. The input that is gathered
// again arrives beside the product that gives x's gradient. The weight's gradient is added into
// weight.main_grad where there is one, as linear() does; a weight that requires none costs no
// product and keeps no input. Group and deferred must outlive the graph.
at::Tensor column_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                   const at::Tensor& bias,
                                   const ColumnParallelCommunication& communication);

}  // namespace megatron
