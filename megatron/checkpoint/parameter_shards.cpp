#include "megatron/checkpoint/parameter_shards.h"

namespace megatron {

ShardedStateDict parameter_shards(const Parameter& parameter, const at::Tensor& tensor,
                                  const std::string& key, int64_t replica_id) {
  ShardedStateDict shards;
  for (const ShardFragment& fragment : parameter.fragments()) {
    shards.push_back({.key = key,
                      .data = parameter.fragment_view(tensor.detach(), fragment),
                      .global_shape = parameter.global_shape(),
                      .global_offset = parameter.fragment_offset(fragment),
                      .replica_id = replica_id,
                      .allow_shape_mismatch = parameter.allow_shape_mismatch,
                      .parameter = &parameter});
  }
  return shards;
}

}  // namespace megatron
