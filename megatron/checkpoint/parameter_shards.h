// From a parameter's marks to the pieces that a checkpoint holds of it.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/checkpoint/sharded_tensor.h"

namespace megatron {

// The pieces of `tensor`, which has the parameter's local shape (its values, or what an optimizer
// keeps for it), under the key `key`. replica_id: 0 where this rank writes them.
ShardedStateDict parameter_shards(const Parameter& parameter, const at::Tensor& tensor,
                                  const std::string& key, int64_t replica_id);

// The same for a part of the parameter: `part` holds the elements of its flattened local tensor
// from `begin` on.
ShardedStateDict parameter_part_shards(const Parameter& parameter, int64_t begin,
                                       const at::Tensor& part, const std::string& key,
                                       int64_t replica_id);

}  // namespace megatron
