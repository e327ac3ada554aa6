#include "megatron/data_parallel/sharded_parameters.h"

#include <ATen/ATen.h>

namespace megatron {

ShardedParameters::ShardedParameters(const FsdpUnits& units, const ProcessGroup& group,
                                     bool prefetch)
    : buffer_(units.layouts),
      buckets_(units.buckets),
      group_(group),
      prefetch_(prefetch),
      gathers_(units.layouts.size()) {
  for (size_t bucket = 0; bucket < buffer_.num_buckets(); ++bucket) {
    FlatBuffer& full = buffer_.bucket(bucket);
    shards_.push_back(full.shard(group_.rank(), group_.size()).clone());
    full.free();
  }
}

void ShardedParameters::start_unshard(size_t unit) {
  for (const size_t bucket : buckets_[unit]) {
    FlatBuffer& full = buffer_.bucket(bucket);
    if (full.is_allocated()) continue;
    full.allocate();
    gathers_[bucket] = group_.iall_gather(full.tensor(), shards_[bucket]);
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

void ShardedParameters::enter(size_t layer, std::optional<size_t> next) {
  if (entered_ && *entered_ != layer) reshard(*entered_);
  entered_ = layer;
  start_unshard(layer);
  if (next && prefetch_) start_unshard(*next);
  unshard(layer);
}

void ShardedParameters::before_forward(size_t unit, bool recomputation) {
  if (unit == kNonLayerUnit) return unshard(kNonLayerUnit);
  const bool is_last = unit + 1 == buckets_.size();
  enter(unit, recomputation || is_last ? std::nullopt : std::optional(unit + 1));
}

void ShardedParameters::before_backward(size_t layer) {
  const bool is_first = layer == kNonLayerUnit + 1;
  enter(layer, is_first ? std::nullopt : std::optional(layer - 1));
}

void ShardedParameters::unshard_all() {
  for (size_t unit = 0; unit < buckets_.size(); ++unit) unshard(unit);
}

void ShardedParameters::reshard_all() {
  for (size_t unit = 0; unit < buckets_.size(); ++unit) reshard(unit);
  entered_.reset();
}

}  // namespace megatron
