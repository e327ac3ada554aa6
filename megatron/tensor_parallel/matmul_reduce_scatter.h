// A matmul overlapped with the reduce-scatter of its result along the sequence.
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// This rank's sequence shard of the sum over ranks of x matrix: x [s, b, in], matrix [in, out] ->
// output [s/tp, b, out]. The sequence is multiplied in up to `chunks` chunks, and each is reduced
// while the next one is multiplied. Collective over the group.
//
// Deterministic, but not always bit-identical to one matmul over [s, b, in]: a GEMM with fewer rows
// may sum in another order.
class MatmulReduceScatter {
 public:
  // Runs the matmuls and returns with reductions in flight. Throws Error unless tp divides s.
  MatmulReduceScatter(const at::Tensor& x, const at::Tensor& matrix, const ProcessGroup& tp,
                      int64_t chunks = 4);

  // Waits for the reductions and returns the output.
  at::Tensor wait();

 private:
  at::Tensor output_;
  std::vector<std::shared_ptr<Work>> reductions_;
};

}  // namespace megatron
