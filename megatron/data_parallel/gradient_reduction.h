// Sums unsharded gradient buckets over the data-parallel ranks, during backward or after it.
#pragma once

#include <map>

#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

class GradientReduction {
 public:
  struct Options {
    // Reduce-scatter, in place: each rank gets the sum of its shard of a bucket only. Otherwise
    // all-reduce.
    bool scatter = false;
    // In a step's last backward pass, a bucket's reduction starts once all of its gradients are
    // complete. Buckets with a deferred gradient start in finish().
    bool overlap = false;
    bool check_for_nan = false;  // of this rank, before each reduction
  };
  GradientReduction(const std::vector<BucketLayout>& layouts, const ProcessGroup& group,
                    Options options);

  void zero() { buffer_.zero(); }
  // The backward pass that begins now is the last of this step.
  void start_last_backward();
  // Starts the reductions that have not started and waits for all.
  void finish();

  // This rank's shard of a bucket.
  at::Tensor shard(size_t bucket) const {
    return buffer_.bucket(bucket).shard(group_.rank(), group_.size());
  }
  // After a reduce-scatter: gathers the shards, so that main_grad is complete on every rank.
  void all_gather();

 private:
  struct Bucket {
    int64_t missing = 0;  // gradients to come
    bool started = false;
    std::shared_ptr<Work> work;
  };
  struct Arrivals {
    size_t bucket = 0;
    int64_t expected = 0, seen = 0;
  };

  void gradient_arrived(const Parameter& parameter);
  void start_full_buckets();
  void start_next();
  void start(size_t index);

  GradientBuffer buffer_;
  const ProcessGroup& group_;
  Options options_;
  // How often a parameter's gradient is completed in one step's last backward pass: more than once
  // with recomputation, whose inner passes count too, and for tied parameters. Learned from the
  // step before.
  bool learned_ = false, last_backward_ = false;
  std::map<const Parameter*, Arrivals> arrivals_;
  std::vector<Bucket> buckets_;
  // Reductions start in this order, the same on every rank: first the buckets that backward
  // completes.
  std::vector<size_t> order_;
  size_t completed_by_backward_ = 0;  // the first so many of order_
  size_t next_ = 0;                   // index into order_
};

}  // namespace megatron
