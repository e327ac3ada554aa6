#include "megatron/data_parallel/sharded_gradients.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/engine.h>

#include "megatron/data_parallel/bucket_shards.h"
#include "megatron/data_parallel/finite_gradients.h"

namespace megatron {

ShardedGradients::ShardedGradients(const FsdpUnits& units, const ProcessGroup& group,
                                   Options options)
    : buffer_(units.layouts), buckets_(units.buckets), group_(group), options_(options) {
  for (size_t bucket = 0; bucket < buffer_.num_buckets(); ++bucket) {
    FlatBuffer& full = buffer_.bucket(bucket);
    shards_.push_back(at::zeros({shard_numel(buffer_.layouts()[bucket])}, full.tensor().options()));
    full.free();
  }
}

void ShardedGradients::zero() {
  for (const at::Tensor& shard : shards_) shard.zero_();
  for (size_t unit = 0; unit < buckets_.size(); ++unit) {
    for (const size_t bucket : buckets_[unit]) {
      FlatBuffer& full = buffer_.bucket(bucket);
      if (unit != kNonLayerUnit) {
        full.free();
        continue;
      }
      full.allocate();
      full.tensor().zero_();
    }
  }
}

void ShardedGradients::begin_backward(size_t layer) {
  end_backward();
  const auto is_of_layer = [&](const Reduction& reduction) {
    return std::ranges::find(buckets_[layer], reduction.bucket) != buckets_[layer].end();
  };
  if (std::ranges::any_of(reductions_, is_of_layer)) finish_reductions();
  for (const size_t bucket : buckets_[layer]) {
    FlatBuffer& full = buffer_.bucket(bucket);
    full.allocate();
    full.tensor().zero_();
  }
  backward_ = layer;
  // Autograd runs nodes in reverse order of recording, so a layer's gradients are complete when the
  // next layer's backward pass begins. Those of the last one are complete at the end of the pass.
  torch::autograd::Engine::get_default_engine().queue_callback([this, layer] {
    if (backward_ == layer) end_backward();
  });
}

void ShardedGradients::end_backward() {
  if (!backward_) return;
  const size_t layer = *std::exchange(backward_, std::nullopt);
  finish_reductions();
  start_reduction(layer);
  if (!options_.overlap) finish_reductions();
}

void ShardedGradients::start_reduction(size_t unit) {
  for (const size_t bucket : buckets_[unit]) {
    const BucketLayout& layout = buffer_.layouts()[bucket];
    FlatBuffer& full = buffer_.bucket(bucket);
    if (options_.check_for_nan) check_finite_gradients(layout, full.tensor(), group_);
    const at::Tensor sum = at::empty_like(shards_[bucket]);
    reductions_.push_back({bucket, sum, start_reduce_scatter(layout, sum, full.tensor(), group_)});
    if (is_staged(layout)) full.free();
  }
}

void ShardedGradients::finish_reductions() {
  const at::NoGradGuard no_grad;
  for (Reduction& reduction : reductions_) {
    reduction.work->wait();
    shards_[reduction.bucket].add_(reduction.sum);
    buffer_.bucket(reduction.bucket).free();
  }
  reductions_.clear();
}

void ShardedGradients::finish() {
  end_backward();
  finish_reductions();
  start_reduction(kNonLayerUnit);
  finish_reductions();
}

void ShardedGradients::unshard() {
  for (size_t bucket = 0; bucket < buffer_.num_buckets(); ++bucket) {
    FlatBuffer& full = buffer_.bucket(bucket);
    full.allocate();
    start_all_gather(buffer_.layouts()[bucket], full.tensor(), shards_[bucket], group_)->wait();
  }
}

}  // namespace megatron
