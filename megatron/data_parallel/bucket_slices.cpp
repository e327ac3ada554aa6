#include "megatron/data_parallel/bucket_slices.h"

#include <algorithm>

namespace megatron {

BucketSlices::BucketSlices(const std::vector<BucketLayout>& layouts, const ProcessGroup& group,
                           const ShardOf& parameter_shard, const ShardOf& gradient_shard)
    : end_of_bucket_(layouts.size()) {
  for (size_t bucket = layouts.size(); bucket-- > 0;) {
    const BucketLayout& layout = layouts[bucket];
    const int64_t length = layout.numel / group.size(), first = group.rank() * length;
    for (auto slot = layout.slots.rbegin(); slot != layout.slots.rend(); ++slot) {
      const int64_t begin = std::max(slot->start, first);
      const int64_t end = std::min(slot->start + slot->parameter->data.numel(), first + length);
      if (begin >= end) continue;
      const auto slice_of = [&](const at::Tensor& shard) {
        return shard.narrow(0, begin - first, end - begin);
      };
      slices_.push_back({slot->parameter, begin - slot->start, slice_of(parameter_shard(bucket)),
                         slice_of(gradient_shard(bucket))});
    }
    end_of_bucket_[bucket] = slices_.size();
  }
}

size_t BucketSlices::updated_down_to(size_t count) const {
  size_t bucket = end_of_bucket_.size();
  while (bucket > 0 && end_of_bucket_[bucket - 1] <= count) --bucket;
  return bucket;
}

}  // namespace megatron
