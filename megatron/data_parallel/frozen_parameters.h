// Refuses frozen parameters (those that require no gradient) that differ between ranks whose
// gradient collectives must match.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// Throws the same Error on all ranks of a group that differ:
// - the data-parallel (dp_cp) and the tensor-parallel group must freeze the same parameters;
// - the embedding group must freeze all copies of a shared embedding or none. Copies differ in name
//   (output_layer.weight on the last stage), so that freezing by one name misses the others.
// `parameters` are all parameters of this rank. Collective over dp_cp, tp and embd.
void check_frozen_parameters(const std::vector<ParameterPtr>& parameters,
                             const ProcessGroupCollection& groups);

}  // namespace megatron
