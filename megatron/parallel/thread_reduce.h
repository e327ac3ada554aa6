// Element-wise reduction over the tensors of several ranks in shared memory, in rank order.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

namespace megatron {

// outputs[*][begin, end) = inputs[0] op inputs[1] op ... over the flat elements [begin, end). All
// tensors are contiguous, of one dtype and device. 16-bit floats are accumulated in fp32, other
// types in their own. An output may be one of the inputs. A NaN in any input gives NaN, in max and
// min too. `op` is SUM, MAX or MIN. Throws Error for dtypes that have no such operation.
void reduce_in_rank_order(const std::vector<at::Tensor>& inputs,
                          const std::vector<at::Tensor>& outputs, c10d::ReduceOp::RedOpType op,
                          int64_t begin, int64_t end);

}  // namespace megatron
