#include "megatron/checkpoint/parameter_shards.h"

#include "megatron/formats/rectangle.h"

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

ShardedStateDict parameter_slice_shards(const Parameter& parameter, int64_t begin,
                                        const at::Tensor& slice, const std::string& key,
                                        int64_t replica_id) {
  const std::vector<int64_t> local_shape = parameter.data.sizes().vec();
  const int split = parameter.sharding.partition_dim;
  ShardedStateDict shards;
  int64_t start = 0;  // of the rectangle within the slice
  for (const Rectangle& rectangle :
       rectangles_of_range(local_shape, begin, begin + slice.numel())) {
    const int64_t volume = shape_volume(rectangle.shape);
    const at::Tensor values =
        slice.detach().view(-1).narrow(0, start, volume).view(rectangle.shape);
    start += volume;
    for (const ShardFragment& fragment : parameter.fragments()) {
      ShardedTensor shard{.key = key,
                          .data = values,
                          .global_shape = parameter.global_shape(),
                          .global_offset = rectangle.offset,
                          .replica_id = replica_id,
                          .allow_shape_mismatch = parameter.allow_shape_mismatch,
                          .parameter = &parameter};
      if (parameter.expert)
        shard.global_offset[0] += parameter.expert_sharding.rank * parameter.data.size(0);
      if (split >= 0) {
        const int64_t first = std::max(rectangle.offset[split], fragment.local_start);
        const int64_t last = std::min(rectangle.offset[split] + rectangle.shape[split],
                                      fragment.local_start + fragment.length);
        if (first >= last) continue;
        shard.data = values.narrow(split, first - rectangle.offset[split], last - first);
        shard.global_offset[split] = fragment.global_start + first - fragment.local_start;
      }
      shards.push_back(std::move(shard));
    }
  }
  return shards;
}

}  // namespace megatron
