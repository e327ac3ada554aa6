// Sums gradients over the ranks that share parameters outside of data parallelism.
#pragma once

#include "megatron/data_parallel/parameter_slice.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// After the data-parallel sum, in Megatron's order (finalize_model_grads.py): all-reduces the
// gradients of sequence-parallel parameters over the tensor-parallel group, then those of the
// copies of a tied embedding over the embedding group. The ranks of these groups must own the same
// slices.
void finalize_shared_gradients(const std::vector<ParameterSlice>& slices,
                               const ProcessGroupCollection& groups);

}  // namespace megatron
