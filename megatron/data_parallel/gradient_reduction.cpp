#include "megatron/data_parallel/gradient_reduction.h"

#include <algorithm>
#include <numeric>

#include "megatron/base/error.h"
#include "megatron/data_parallel/finite_gradients.h"

namespace megatron {

GradientReduction::GradientReduction(const std::vector<BucketLayout>& layouts,
                                     const ProcessGroup& group, Options options)
    : buffer_(layouts, [this](const Parameter& parameter) { gradient_arrived(parameter); }),
      group_(group),
      options_(options),
      buckets_(layouts.size()) {
  for (size_t bucket = 0; bucket < layouts.size(); ++bucket) {
    for (const BucketSlot& slot : layouts[bucket].slots)
      arrivals_[slot.parameter.get()].bucket = bucket;
  }
  order_.resize(layouts.size());
  std::iota(order_.begin(), order_.end(), size_t{0});
  const auto deferred = std::ranges::stable_partition(order_, [&](size_t bucket) {
    return std::ranges::none_of(layouts[bucket].slots, [](const BucketSlot& slot) {
      return slot.parameter->gradient_is_deferred;
    });
  });
  completed_by_backward_ = order_.size() - deferred.size();
}

void GradientReduction::start_last_backward() {
  if (!options_.overlap) return;
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
        "got another one after their reduction had started; without --overlap-grad-reduce it works",
        arrivals.expected, parameter.name);
  if (++arrivals.seen > arrivals.expected) return;
  --bucket.missing;
  start_full_buckets();
}

void GradientReduction::start_full_buckets() {
  if (!learned_) return;
  while (next_ < completed_by_backward_ && buckets_[order_[next_]].missing == 0) start_next();
}

void GradientReduction::start_next() {
  start(order_[next_++]);
}

void GradientReduction::start(size_t index) {
  Bucket& bucket = buckets_[index];
  bucket.started = true;
  const at::Tensor& gradients = buffer_.bucket(index).tensor();
  if (options_.check_for_nan) check_finite_gradients(buffer_.layouts()[index], gradients, group_);
  if (group_.size() == 1) return;
  bucket.work = options_.scatter ? group_.ireduce_scatter(shard(index), gradients)
                                 : group_.iall_reduce(gradients);
}

void GradientReduction::finish() {
  while (next_ < order_.size()) start_next();
  for (Bucket& bucket : buckets_) {
    if (bucket.work) std::exchange(bucket.work, nullptr)->wait();
    bucket.started = false;
  }
  next_ = 0;
  if (!std::exchange(last_backward_, false)) return;
  for (auto& [parameter, arrivals] : arrivals_) arrivals.expected = arrivals.seen;
  learned_ = true;
}

void GradientReduction::all_gather() {
  if (group_.size() == 1) return;
  for (size_t bucket = 0; bucket < buffer_.num_buckets(); ++bucket)
    group_.iall_gather(buffer_.bucket(bucket).tensor(), shard(bucket))->wait();
}

}  // namespace megatron
