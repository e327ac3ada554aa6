#include "megatron/data_parallel/sharded_parameters.h"

#include <ATen/ATen.h>

#include "megatron/data_parallel/bucket_shards.h"

namespace megatron {

ShardedParameters::ShardedParameters(const FsdpUnits& units, const ProcessGroup& group,
                                     Options options)
    : buffer_(units.layouts),
      buckets_(units.buckets),
      group_(group),
      options_(options),
      gathers_(units.layouts.size()) {
  for (size_t bucket = 0; bucket < buffer_.num_buckets(); ++bucket) {
    FlatBuffer& full = buffer_.bucket(bucket);
    shards_.push_back(copy_of_shard(buffer_.layouts()[bucket], full.tensor(), group_));
    full.free();
  }
}

void ShardedParameters::start_unshard(size_t unit) {
  for (const size_t bucket : buckets_[unit]) {
    FlatBuffer& full = buffer_.bucket(bucket);
    if (full.is_allocated()) continue;
    full.allocate();
    gathers_[bucket] =
        start_all_gather(buffer_.layouts()[bucket], full.tensor(), shards_[bucket], group_);
  }
}

void ShardedParameters::unshard(size_t unit) {
  start_unshard(unit);
  for (const size_t bucket : buckets_[unit]) {
    if (gathers_[bucket]) std::exchange(gathers_[bucket], nullptr)->wait();
  }
}

void ShardedParameters::reshard(size_t unit) {
  for (const size_t bucket : buckets_[unit]) {
    if (gathers_[bucket]) std::exchange(gathers_[bucket], nullptr)->wait();
    buffer_.bucket(bucket).free();
  }
}

void ShardedParameters::enter(size_t layer, std::optional<size_t> next, bool backward) {
  const bool is_complete = options_.reshard_after_forward || entered_in_backward_;
  if (entered_ && *entered_ != layer && is_complete) reshard(*entered_);
  entered_ = layer;
  entered_in_backward_ = backward;
  start_unshard(layer);
  if (next && options_.prefetch) start_unshard(*next);
  unshard(layer);
}

void ShardedParameters::before_forward(size_t unit, bool recomputation) {
  if (unit == kNonLayerUnit) return unshard(kNonLayerUnit);
  const bool is_last = unit + 1 == buckets_.size();
  enter(unit, recomputation || is_last ? std::nullopt : std::optional(unit + 1), recomputation);
}

void ShardedParameters::before_backward(size_t layer) {
  const bool is_first = layer == kNonLayerUnit + 1;
  enter(layer, is_first ? std::nullopt : std::optional(layer - 1), /*backward=*/true);
}

void ShardedParameters::unshard_all() {
  for (size_t unit = 0; unit < buckets_.size(); ++unit) unshard(unit);
}

void ShardedParameters::reshard_all() {
  for (size_t unit = 0; unit < buckets_.size(); ++unit) reshard(unit);
  entered_.reset();
}

}  // namespace megatron
