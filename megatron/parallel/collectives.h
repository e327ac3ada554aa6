// Collectives with gradients over the tensor-parallel group, with Megatron's names
// (core/tensor_parallel/mappings.py). In a group of one each is the identity. The group must
// outlive the graph, because backward uses it.
#pragma once

#include <ATen/ATen.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// Forward identity, backward all-reduce.
at::Tensor copy_to_tensor_model_parallel_region(const at::Tensor& input, const ProcessGroup& tp);
// Forward all-reduce, backward identity.
at::Tensor reduce_from_tensor_model_parallel_region(const at::Tensor& input,
                                                    const ProcessGroup& tp);
// Forward this rank's shard of the last dimension, backward all-gather along it.
at::Tensor scatter_to_tensor_model_parallel_region(const at::Tensor& input, const ProcessGroup& tp);
// Forward all-gather along the last dimension, backward this rank's shard of it.
at::Tensor gather_from_tensor_model_parallel_region(const at::Tensor& input,
                                                    const ProcessGroup& tp);
// Forward all-gather along the last dimension, backward reduce-scatter along it.
at::Tensor all_gather_last_dim_from_tensor_parallel_region(const at::Tensor& input,
                                                           const ProcessGroup& tp);

// Sequence parallelism: dimension 0 is the sequence.
// Forward this rank's shard of dimension 0, backward all-gather.
at::Tensor scatter_to_sequence_parallel_region(const at::Tensor& input, const ProcessGroup& tp);
// Forward all-gather along dimension 0, backward reduce-scatter. With `tensor_parallel_output_grad`
// false every rank has the same output gradient, and backward takes this rank's shard of it.
at::Tensor gather_from_sequence_parallel_region(const at::Tensor& input, const ProcessGroup& tp,
                                                bool tensor_parallel_output_grad = true);
// Forward reduce-scatter along dimension 0, backward all-gather.
at::Tensor reduce_scatter_to_sequence_parallel_region(const at::Tensor& input,
                                                      const ProcessGroup& tp);

}  // namespace megatron
