// The two layouts of experts in checkpoints: one tensor for all experts of a layer (Megatron's grouped
// experts), or one for each (its sequential experts). In memory they are one parameter, a stack.
#pragma once

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/sharded_tensor.h"

namespace megatron {

// Shards of stacks (<...>.experts.experts.<...>, [experts, ...]) as shards of one tensor for each
// expert (<...>.experts.local_experts.<number>.<...>). Others stay as they are.
ShardedStateDict with_sequential_experts(const ShardedStateDict& state);

// `state` with the stacks in the layout in which `checkpoint` stores them.
ShardedStateDict in_layout_of(const CheckpointReader& checkpoint, const ShardedStateDict& state);

}  // namespace megatron
