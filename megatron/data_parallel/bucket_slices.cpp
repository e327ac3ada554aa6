#include "megatron/data_parallel/bucket_slices.h"

#include <algorithm>

#include "megatron/data_parallel/bucket_shards.h"

namespace megatron {
namespace {

// The shape of `numel` elements of `data` that are whole rows.
std::vector<int64_t> row_shape(const at::Tensor& data, int64_t numel) {
  std::vector<int64_t> shape = data.sizes().vec();
  if (!shape.empty()) shape[0] = numel / (data.numel() / data.size(0));
  return shape;
}

}  // namespace

BucketSlices::BucketSlices(const std::vector<BucketLayout>& layouts, const ProcessGroup& group,
                           const ShardOf& parameter_shard, const ShardOf& gradient_shard)
    : end_of_bucket_(layouts.size()) {
  for (size_t bucket = layouts.size(); bucket-- > 0;) {
    const BucketLayout& layout = layouts[bucket];
    int64_t offset = shard_numel(layout);  // of the piece within the shard
    for (auto piece = layout.pieces.rbegin(); piece != layout.pieces.rend(); ++piece) {
      const int64_t length = piece->shard_numel, first = piece->start + group.rank() * length;
      offset -= length;
      for (auto slot = layout.slots.rbegin(); slot != layout.slots.rend(); ++slot) {
        const at::Tensor& data = slot->parameter->data;
        const int64_t begin = std::max(slot->start, first);
        const int64_t end = std::min(slot->start + data.numel(), first + length);
        if (begin >= end) continue;
        const auto slice_of = [&](const at::Tensor& shard) {
          const at::Tensor slice = shard.narrow(0, offset + begin - first, end - begin);
          return layout.sharding == BucketSharding::rows ? slice.view(row_shape(data, end - begin))
                                                         : slice;
        };
        slices_.push_back({slot->parameter, begin - slot->start, slice_of(parameter_shard(bucket)),
                           slice_of(gradient_shard(bucket))});
      }
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
