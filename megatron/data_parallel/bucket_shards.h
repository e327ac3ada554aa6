// The shards of a bucket: their extent, and the collectives between full buckets and shards.
//
// A shard holds this rank's run of every piece, one after another. Where a bucket has several
// pieces, the ranks' shards lie one after another in a collective but not in the bucket, so values
// pass through a staging tensor that exists while the collective runs.
#pragma once

#include "megatron/data_parallel/parameter_buckets.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

int64_t shard_numel(const BucketLayout& layout);

// Whether collectives go through a staging tensor.
bool is_staged(const BucketLayout& layout);

// A copy of this rank's shard of `full`, the elements of a bucket.
at::Tensor copy_of_shard(const BucketLayout& layout, const at::Tensor& full,
                         const ProcessGroup& group);

// Gathers the ranks' shards into `full`. Padding between pieces keeps its values. `full` is
// complete after Work::wait().
std::shared_ptr<Work> start_all_gather(const BucketLayout& layout, const at::Tensor& full,
                                       const at::Tensor& shard, const ProcessGroup& group);

// Writes this rank's shard of the ranks' sum of `full` to `shard`. `full` may change before
// Work::wait() if and only if the bucket is staged.
std::shared_ptr<Work> start_reduce_scatter(const BucketLayout& layout, const at::Tensor& shard,
                                           const at::Tensor& full, const ProcessGroup& group);

}  // namespace megatron
