// The sum of whole gradient buckets over the data-parallel group, after or during backward.
#pragma once

#include <map>

#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

class GradientReduction {
 public:
  // `scatter`: every rank gets the sum of its own slice of a bucket only, in place. `overlap`:
  // buckets are started as they fill in the last backward pass of a step, but for those of a
  // parameter whose gradient is deferred: finish() starts these.
  GradientReduction(GradientBuffer& buffer, const ProcessGroup& group, bool scatter, bool overlap);

  // The backward pass that begins now is the last of this step.
  void start_last_backward();
  // To be told of every gradient.
  void gradient_arrived(const Parameter& parameter);
  // Starts what has not been started and waits for all.
  void finish();

 private:
  struct Bucket {
    int64_t missing = 0;  // gradients to come
    bool started = false;
    std::shared_ptr<Pending> pending;
  };
  struct Arrivals {
    size_t bucket = 0;
    int64_t expected = 0, seen = 0;
  };

  void start_full_buckets();
  void start_next();
  void start(size_t index);

  GradientBuffer& buffer_;
  const ProcessGroup& group_;
  bool scatter_, overlap_;
  // How often a parameter's gradient arrives in one backward pass (recomputed parts are passes of
  // their own, and a tied parameter may be in several) is learnt from the step before.
  bool learnt_ = false, last_backward_ = false;
  std::map<const Parameter*, Arrivals> arrivals_;
  std::vector<Bucket> buckets_;
  // Buckets are started in this order, which is the same on every rank: first those that backward
  // completes.
  std::vector<size_t> order_;
  size_t completed_by_backward_ = 0;  // so many of order_
  size_t next_ = 0;                   // of order_
};

}  // namespace megatron
