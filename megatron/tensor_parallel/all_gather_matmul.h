// An all-gather along the sequence, overlapped with the matmul that reads the gathered tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

struct AllGatherMatmul {
  at::Tensor gathered;  // [s, b, in]: x of every rank, in rank order
  at::Tensor output;    // [s, b, out] = gathered matrix (+ bias)
};

// x [s/tp, b, in] of each rank, matrix [in, out], bias [out] or undefined. Every rank sends its x
// in up to `pieces` pieces to each other rank, multiplies it, and multiplies each piece of the other
// ranks when it arrives. Collective over the group.
//
// Deterministic, but not always bit-identical to one matmul over [s, b, in]: a GEMM with fewer rows
// may sum in another order.
AllGatherMatmul all_gather_matmul(const at::Tensor& x, const at::Tensor& matrix,
                                  const at::Tensor& bias, const ProcessGroup& tp,
                                  int64_t pieces = 1);

}  // namespace megatron
