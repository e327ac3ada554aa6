// Matrix products along a sequence that is split over the tensor-parallel group, piece by piece, so
// that the exchange of one piece runs beside the product of another.
//
// Both are deterministic. Against one product of the whole sequence the bits may differ: a GEMM of
// fewer rows may sum in another order.
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

struct AllGatherMatmul {
  at::Tensor whole;   // [s, b, in]: every rank's x in rank order
  at::Tensor output;  // [s, b, out] = whole matrix (+ bias)
};

// The product of the whole sequence, of which each rank brings a part: x [s/tp, b, in], matrix
// [in, out], bias [out] or undefined. Every rank sends its part to each other rank; the own part's
// product is first, and each other part's follows as it arrives. Collective over the group.
AllGatherMatmul all_gather_matmul(const at::Tensor& x, const at::Tensor& matrix,
                                 const at::Tensor& bias, const ProcessGroup& tp);

// This rank's part of the sum over ranks of x matrix: x [s, b, in], matrix [in, out] -> output
// [s/tp, b, out]. Up to kReduceScatterChunks pieces of the sequence are reduced one by one, each while
// the next is multiplied. Collective over the group.
class MatmulReduceScatter {
 public:
  // Multiplies, and leaves reductions in flight. Throws Error where s does not divide.
  MatmulReduceScatter(const at::Tensor& x, const at::Tensor& matrix, const ProcessGroup& tp);
  // What must be there before the output is read.
  at::Tensor wait();

 private:
  at::Tensor output_;
  std::vector<std::shared_ptr<Work>> reductions_;
};

inline constexpr int64_t kReduceScatterChunks = 4;

}  // namespace megatron
