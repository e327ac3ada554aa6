#include "megatron/data_parallel/gradient_reduction.h"

#include <algorithm>
#include <numeric>

#include "megatron/base/error.h"

namespace megatron {

GradientReduction::GradientReduction(GradientBuffer& buffer, const ProcessGroup& group,
                                     bool scatter, bool overlap)
    : buffer_(buffer),
      group_(group),
      scatter_(scatter),
      overlap_(overlap),
      buckets_(buffer.num_buckets()) {
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    for (const BucketSlot& slot : buffer.layouts()[bucket].slots)
      arrivals_[slot.parameter.get()].bucket = bucket;
  }
  order_.resize(buckets_.size());
  std::iota(order_.begin(), order_.end(), size_t{0});
  const auto deferred = std::ranges::stable_partition(order_, [&](size_t bucket) {
    return std::ranges::none_of(buffer.layouts()[bucket].slots, [](const BucketSlot& slot) {
      return slot.parameter->gradient_is_deferred;
    });
  });
  completed_by_backward_ = order_.size() - deferred.size();
}

void GradientReduction::start_last_backward() {
  if (!overlap_) return;
  last_backward_ = true;
  for (Bucket& bucket : buckets_) bucket.missing = 0;
  for (auto& [parameter, arrivals] : arrivals_) {
    arrivals.seen = 0;
    buckets_[arrivals.bucket].missing += arrivals.expected;
  }
  start_full_buckets();
}

void GradientReduction::gradient_arrived(const Parameter& parameter) {
  if (!last_backward_) return;
  Arrivals& arrivals = arrivals_.at(&parameter);
  Bucket& bucket = buckets_[arrivals.bucket];
  check(!bucket.started,
        "Expected {} gradients of {} in a step's last backward pass, as in the step before, but "
        "got another after they were reduced; without --overlap-grad-reduce it works",
        arrivals.expected, parameter.name);
  if (++arrivals.seen > arrivals.expected) return;
  --bucket.missing;
  start_full_buckets();
}

void GradientReduction::start_full_buckets() {
  if (!learnt_) return;
  while (next_ < completed_by_backward_ && buckets_[order_[next_]].missing == 0) start_next();
}

void GradientReduction::start_next() {
  start(order_[next_++]);
}

void GradientReduction::start(size_t index) {
  Bucket& bucket = buckets_[index];
  bucket.started = true;
  if (group_.size() == 1) return;
  const FlatBuffer& gradients = buffer_.bucket(index);
  bucket.pending = scatter_ ? group_.ireduce_scatter(gradients.shard(group_.rank(), group_.size()),
                                                     gradients.tensor())
                            : group_.iall_reduce(gradients.tensor());
}

void GradientReduction::finish() {
  while (next_ < order_.size()) start_next();
  for (Bucket& bucket : buckets_) {
    if (bucket.pending) std::exchange(bucket.pending, nullptr)->wait();
    bucket.started = false;
  }
  next_ = 0;
  if (!std::exchange(last_backward_, false)) return;
  for (auto& [parameter, arrivals] : arrivals_) arrivals.expected = arrivals.seen;
  learnt_ = true;
}

}  // namespace megatron
