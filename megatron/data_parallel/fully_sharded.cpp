#include "megatron/data_parallel/fully_sharded.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>

namespace megatron {
namespace {

constexpr size_t kRest = 0;  // the unit of all that is no layer

}  // namespace

FullySharded::FullySharded(GradientBuffer& gradients, ParameterBuffer* parameters,
                           std::vector<ShardedUnit> units, const ProcessGroup& group,
                           Overlap overlap)
    : gradients_(gradients),
      parameters_(parameters),
      units_(std::move(units)),
      group_(group),
      overlap_(overlap),
      gathers_(gradients.num_buckets()) {
  for (size_t bucket = 0; bucket < gradients_.num_buckets(); ++bucket) {
    FlatBuffer& whole = gradients_.bucket(bucket);
    gradient_shards_.push_back(
        at::zeros({whole.tensor().numel() / group_.size()}, whole.tensor().options()));
    whole.release();
    if (parameters_ == nullptr) continue;
    FlatBuffer& values = parameters_->bucket(bucket);
    parameter_shards_.push_back(values.shard(group_.rank(), group_.size()).clone());
    values.release();
  }
}

void FullySharded::zero_gradients() {
  for (const at::Tensor& shard : gradient_shards_) shard.zero_();
  for (size_t unit = 0; unit < units_.size(); ++unit) {
    for (const size_t bucket : units_[unit].buckets) {
      FlatBuffer& whole = gradients_.bucket(bucket);
      if (unit != kRest) {
        whole.release();
        continue;
      }
      whole.hold();
      whole.tensor().zero_();
    }
  }
}

void FullySharded::start_gather(size_t unit) {
  if (parameters_ == nullptr) return;
  for (const size_t bucket : units_[unit].buckets) {
    FlatBuffer& values = parameters_->bucket(bucket);
    if (values.is_held()) continue;
    values.hold();
    gathers_[bucket] = group_.iall_gather(values.tensor(), parameter_shards_[bucket]);
  }
}

void FullySharded::hold(size_t unit) {
  start_gather(unit);
  for (const size_t bucket : units_[unit].buckets) {
    if (gathers_[bucket]) std::exchange(gathers_[bucket], nullptr)->wait();
  }
}

void FullySharded::release(size_t unit) {
  if (parameters_ == nullptr) return;
  for (const size_t bucket : units_[unit].buckets) {
    if (gathers_[bucket]) std::exchange(gathers_[bucket], nullptr)->wait();
    parameters_->bucket(bucket).release();
  }
}

void FullySharded::enter(size_t unit, std::optional<size_t> next) {
  if (entered_ && *entered_ != unit) release(*entered_);
  entered_ = unit;
  start_gather(unit);
  if (next && overlap_.parameters) start_gather(*next);
  hold(unit);
}

void FullySharded::before_forward(size_t unit) {
  if (unit == kRest) {
    hold(kRest);
    return;
  }
  // Within backward this is a layer that is computed again: whatever layer came before is done, and
  // which one comes next is not known here.
  const bool again = torch::autograd::get_current_graph_task_id() != -1;
  if (again) end_backward();
  const bool is_last = unit + 1 == units_.size();
  enter(unit, again || is_last ? std::nullopt : std::optional(unit + 1));
}

void FullySharded::after_forward(size_t unit, const at::Tensor& output) {
  if (unit == kRest || !at::GradMode::is_enabled() || !output.requires_grad()) return;
  output.register_hook([this, unit](const at::Tensor&) { begin_backward(unit); });
}

void FullySharded::begin_backward(size_t unit) {
  end_backward();
  enter(unit, unit > kRest + 1 ? std::optional(unit - 1) : std::nullopt);
  const auto is_of_unit = [&](const Reduction& reduction) {
    return std::ranges::find(units_[unit].buckets, reduction.bucket) != units_[unit].buckets.end();
  };
  if (std::ranges::any_of(reductions_, is_of_unit)) finish_reductions();
  for (const size_t bucket : units_[unit].buckets) {
    FlatBuffer& whole = gradients_.bucket(bucket);
    whole.hold();
    whole.tensor().zero_();
  }
  backward_ = unit;
  // All of a layer's gradients are there when the next layer's backward begins: autograd runs what
  // was recorded last first. The last one's are there at the end of the pass.
  torch::autograd::Engine::get_default_engine().queue_callback([this, unit] {
    if (backward_ == unit) end_backward();
  });
}

void FullySharded::end_backward() {
  if (!backward_) return;
  const size_t unit = *std::exchange(backward_, std::nullopt);
  finish_reductions();
  start_reduction(unit);
  if (!overlap_.gradients) finish_reductions();
}

void FullySharded::start_reduction(size_t unit) {
  for (const size_t bucket : units_[unit].buckets) {
    const at::Tensor sum = at::empty_like(gradient_shards_[bucket]);
    auto pending = group_.ireduce_scatter(sum, gradients_.bucket(bucket).tensor());
    reductions_.push_back({bucket, sum, std::move(pending)});
  }
}

void FullySharded::finish_reductions() {
  const at::NoGradGuard no_grad;
  for (Reduction& reduction : reductions_) {
    reduction.pending->wait();
    gradient_shards_[reduction.bucket].add_(reduction.sum);
    gradients_.bucket(reduction.bucket).release();
  }
  reductions_.clear();
}

void FullySharded::finish_gradients() {
  end_backward();
  finish_reductions();
  start_reduction(kRest);
  finish_reductions();
  release_parameters();
}

void FullySharded::hold_all_parameters() {
  for (size_t unit = 0; unit < units_.size(); ++unit) hold(unit);
}

void FullySharded::hold_all_gradients() {
  for (size_t bucket = 0; bucket < gradients_.num_buckets(); ++bucket) {
    FlatBuffer& whole = gradients_.bucket(bucket);
    whole.hold();
    group_.iall_gather(whole.tensor(), gradient_shards_[bucket])->wait();
  }
}

void FullySharded::release_parameters() {
  for (size_t unit = 0; unit < units_.size(); ++unit) release(unit);
  entered_.reset();
}

}  // namespace megatron
