// Element-wise reduction over the tensors of several ranks in shared memory, in rank order.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

namespace megatron {

// outputs[*][begin, end) = inputs[0] op inputs[1] op ... for the flat elements [begin, end). All
// tensors are contiguous and have the same dtype and device. An output may alias an input. 16-bit
// floats accumulate in fp32, other dtypes in their own. A NaN in any input gives NaN, also for max
// and min. `op` is SUM, MAX or MIN. Throws Error for other dtypes.
void reduce_in_rank_order(const std::vector<at::Tensor>& inputs,
                          const std::vector<at::Tensor>& outputs, c10d::ReduceOp::RedOpType op,
                          int64_t begin, int64_t end);

}  // namespace megatron
