// The parameter slices in this rank's shards of the buckets.
#pragma once

#include <functional>

#include "megatron/data_parallel/parameter_buckets.h"
#include "megatron/data_parallel/parameter_slice.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

class BucketSlices {
 public:
  // This rank's shard of a bucket.
  using ShardOf = std::function<at::Tensor(size_t bucket)>;
  BucketSlices(const std::vector<BucketLayout>& layouts, const ProcessGroup& group,
               const ShardOf& parameter_shard, const ShardOf& gradient_shard);

  // In forward order: from the last bucket to the first, in each from the last slot to the first.
  // Their tensors are flat, or whole rows of the parameter where buckets are sharded by rows.
  const std::vector<ParameterSlice>& slices() const { return slices_; }
  // The first bucket such that no slice from it on is missing among the first `count` slices.
  size_t updated_down_to(size_t count) const;

 private:
  std::vector<ParameterSlice> slices_;
  std::vector<size_t> end_of_bucket_;  // slices of this bucket and of those after it
};

}  // namespace megatron
