// The product of a row-parallel layer with its reduce-scatter, piece by piece (--tp-comm-overlap).
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// x [s, b, in_p], weight [out, in_p] -> [s/tp, b, out]: this rank's part of the sum over ranks of
// x weight^T. Backward gathers the gradient of the whole sequence piece by piece beside the
// products that give x's gradient; the weight's gradient goes where linear() puts it. The group
// must outlive the graph.
at::Tensor overlapped_row_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                          const ProcessGroup& tp);

}  // namespace megatron
