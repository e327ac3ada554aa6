// Sharded tensors of a parameter.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/checkpoint/sharded_tensor.h"

namespace megatron {

// Shards of `tensor`, which has the parameter's local shape (its values or optimizer state), with
// key `key`. The rank with replica_id 0 writes them.
ShardedStateDict parameter_shards(const Parameter& parameter, const at::Tensor& tensor,
                                  const std::string& key, int64_t replica_id);

// The same for a slice of the flattened local tensor that starts at element `begin`.
ShardedStateDict parameter_slice_shards(const Parameter& parameter, int64_t begin,
                                        const at::Tensor& slice, const std::string& key,
                                        int64_t replica_id);

}  // namespace megatron
