// What is left to do for complete gradients after the data-parallel sum.
#pragma once

#include "megatron/data_parallel/parameter_part.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// In Megatron's order (finalize_model_grads.py): parameters that saw only a part of the sequence
// are summed over the tensor-parallel group, the copies of a tied embedding over the embedding
// group. Collective over those groups, whose ranks own the same parts.
void finalize_shared_gradients(const std::vector<ParameterPart>& parts,
                               const ProcessGroupCollection& groups);

}  // namespace megatron
