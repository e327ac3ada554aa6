// The autograd function of a row-parallel linear layer with sequence parallelism, whose matmuls
// overlap with its communication (--tp-comm-overlap).
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/config/model/tp_comm_overlap.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// x [s, b, in_p], weight [out, in_p] -> [s/tp, b, out]: this rank's sequence shard of the sum over
// ranks of x weight^T, by MatmulReduceScatter. Backward computes x's gradient by all_gather_matmul;
// the weight gradient is accumulated or returned as in linear(). `overlap` may replace either by one
// collective and one matmul. The group must outlive the graph.
at::Tensor overlapped_row_parallel_linear(
    const at::Tensor& x, const Parameter& weight, const ProcessGroup& tp,
    const LinearOverlap& overlap = LinearOverlap::of_row_parallel());

}  // namespace megatron
