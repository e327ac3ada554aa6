#include "megatron/data_parallel/sharded_gradients.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/engine.h>

namespace megatron {

ShardedGradients::ShardedGradients(const FsdpUnits& units, const ProcessGroup& group, bool overlap)
    : buffer_(units.layouts), buckets_(units.buckets), group_(group), overlap_(overlap) {
  for (size_t bucket = 0; bucket < buffer_.num_buckets(); ++bucket) {
    FlatBuffer& full = buffer_.bucket(bucket);
    shards_.push_back(at::zeros({full.tensor().numel() / group_.size()}, full.tensor().options()));
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
  if (!overlap_) finish_reductions();
}

void ShardedGradients::start_reduction(size_t unit) {
  for (const size_t bucket : buckets_[unit]) {
    const at::Tensor sum = at::empty_like(shards_[bucket]);
    auto work = group_.ireduce_scatter(sum, buffer_.bucket(bucket).tensor());
    reductions_.push_back({bucket, sum, std::move(work)});
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
    group_.iall_gather(full.tensor(), shards_[bucket])->wait();
  }
}

}  // namespace megatron
