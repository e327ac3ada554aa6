// Unsharded parameters of which each rank updates a shard, gathered before the modules that read
// them run.
#pragma once

#include <map>

#include "megatron/data_parallel/parameter_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

class ParameterGather {
 public:
  // `overlap`: all gathers start at the end of an update, and each is waited for when a module
  // reads its parameters.
  ParameterGather(const std::vector<BucketLayout>& layouts, const ProcessGroup& group,
                  bool overlap);
  // Waits for the gathers in flight, except while an exception unwinds: the other ranks may be gone
  // then.
  ~ParameterGather();
  ParameterGather(const ParameterGather&) = delete;
  ParameterGather& operator=(const ParameterGather&) = delete;

  // This rank's shard of a bucket.
  at::Tensor shard(size_t bucket) const {
    return buffer_.bucket(bucket).shard(group_.rank(), group_.size());
  }

  // Starts the gathers of buckets [end, num_buckets) that have not started in this update: 0 starts
  // all. The order is from the last bucket, which is read first, to the first, on every rank.
  void start_down_to(size_t end);
  // Ends an update: starts the remaining gathers, and waits for all where they do not overlap.
  void finish_update();

  // Waits for the buckets that hold these parameters.
  void wait_for(const std::vector<ParameterPtr>& parameters);
  void wait_for_all();

 private:
  void wait(size_t bucket);

  ParameterBuffer buffer_;
  const ProcessGroup& group_;
  bool overlap_;
  std::map<const Parameter*, size_t> bucket_of_;
  std::vector<std::shared_ptr<Work>> work_;  // by bucket
  size_t started_;  // the gathers of buckets from this one on have started in this update
};

}  // namespace megatron
