// Makes copies of parameters equal (Megatron's broadcast_params, for data_parallel_random_init).
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// Sets Parameter::data on every rank to the values of the group's rank 0, frozen parameters
// included. Parameters on the meta device have no values and stay. Call it before DistributedDataParallel shards them: a rank's values outside of its own
// shard are gone then. Collective over `data_parallel`, the ranks with copies (dp_cp).
// Experts have copies on the ranks of `expert_data_parallel` (expt_dp) instead.
void broadcast_parameters(const std::vector<ParameterPtr>& parameters,
                          const ProcessGroup& data_parallel,
                          const ProcessGroup& expert_data_parallel);

}  // namespace megatron
