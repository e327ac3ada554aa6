#include "megatron/data_parallel/distributed_data_parallel.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <set>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

// The buckets of the layers from the last to the first, then those of all that is no layer, and in
// `units` whose they are.
std::vector<BucketLayout> plan_units(const std::vector<ModelPart>& parts, const BucketRules& rules,
                                     std::vector<ShardedUnit>& units) {
  std::vector<std::vector<ParameterPtr>> parameters(1);  // by unit
  std::vector<size_t> unit_of_part;
  for (const ModelPart& part : parts) {
    unit_of_part.push_back(part.is_layer ? parameters.size() : 0);
    if (part.is_layer) parameters.emplace_back();
  }
  std::set<const Parameter*> known;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const ParameterPtr& parameter : parts[i].parameters) {
      if (known.insert(parameter.get()).second) parameters[unit_of_part[i]].push_back(parameter);
    }
  }
  units.resize(parameters.size());
  std::vector<BucketLayout> layouts;
  for (size_t unit = parameters.size(); unit-- > 0;) {
    BucketRules own = rules;
    if (unit != 0) own.bucket_size = std::numeric_limits<int64_t>::max();
    for (BucketLayout& layout : plan_buckets(parameters[unit], own)) {
      units[unit].buckets.push_back(layouts.size());
      layouts.push_back(std::move(layout));
    }
  }
  return layouts;
}

}  // namespace

DistributedDataParallel::DistributedDataParallel(std::vector<ModelPart> parts,
                                                 const DistributedDataParallelConfig& config,
                                                 ProcessGroupPtr data_parallel)
    : parts_(std::move(parts)),
      group_(std::move(data_parallel)),
      strategy_(sharding_strategy(config)) {
  const std::vector<BucketLayout> layouts = plan(config);
  gradients_ = std::make_unique<GradientBuffer>(layouts, [this](const Parameter& parameter) {
    if (reduction_) reduction_->gradient_arrived(parameter);
  });
  if (is_sharded()) parameters_ = std::make_unique<ParameterBuffer>(layouts);
  const bool shards_gradients =
      strategy_ == Strategy::optim_grads || strategy_ == Strategy::optim_grads_params;
  const bool shards_parameters = strategy_ == Strategy::optim_grads_params;
  if (shards_gradients) {
    sharded_ = std::make_unique<FullySharded>(
        *gradients_, shards_parameters ? parameters_.get() : nullptr, units_, *group_,
        FullySharded::Overlap{.gradients = config.overlap_grad_reduce,
                              .parameters = config.overlap_param_gather});
  } else {
    reduction_ = std::make_unique<GradientReduction>(*gradients_, *group_, /*scatter=*/is_sharded(),
                                                     config.overlap_grad_reduce);
  }
  if (is_sharded() && !shards_parameters) {
    gather_ = std::make_unique<ParameterGather>(*parameters_, *group_, config.overlap_param_gather);
  }
  list_owned_parts();
  set_hooks();
}

DistributedDataParallel::~DistributedDataParallel() {
  for (const ModelPart& part : parts_) {
    if (part.module) part.module->set_forward_hooks({});
  }
  // A transport should not go away under an operation; after a failure nobody may answer.
  if (!gather_ || std::uncaught_exceptions() > 0) return;
  try {
    gather_->wait_for_all();
  } catch (const std::exception&) {
    // The rank that failed says so.
  }
}

std::vector<BucketLayout> DistributedDataParallel::plan(
    const DistributedDataParallelConfig& config) {
  const BucketRules rules(config, group_->size());
  if (strategy_ == Strategy::no_shard || strategy_ == Strategy::optim)
    return plan_buckets(parameters_of(parts_), rules);
  return plan_units(parts_, rules, units_);
}

void DistributedDataParallel::list_owned_parts() {
  const std::vector<BucketLayout>& layouts = gradients_->layouts();
  parts_behind_.resize(layouts.size());
  for (size_t bucket = layouts.size(); bucket-- > 0;) {
    const BucketLayout& layout = layouts[bucket];
    const int64_t length = layout.numel / group_->size(), first = group_->rank() * length;
    for (auto slot = layout.slots.rbegin(); slot != layout.slots.rend(); ++slot) {
      const ParameterPtr& parameter = slot->parameter;
      if (!is_sharded()) {
        owned_parts_.push_back({parameter, 0, parameter->data, parameter->main_grad});
        continue;
      }
      const int64_t begin = std::max(slot->start, first);
      const int64_t end = std::min(slot->start + parameter->data.numel(), first + length);
      if (begin >= end) continue;
      const auto part_of = [&](const at::Tensor& shard) {
        return shard.narrow(0, begin - first, end - begin);
      };
      const auto shard_of = [&](FlatBuffer& whole) {
        return whole.shard(group_->rank(), group_->size());
      };
      owned_parts_.push_back({parameter, begin - slot->start,
                              part_of(gather_ ? shard_of(parameters_->bucket(bucket))
                                              : sharded_->parameter_shard(bucket)),
                              part_of(sharded_ ? sharded_->gradient_shard(bucket)
                                               : shard_of(gradients_->bucket(bucket)))});
    }
    parts_behind_[bucket] = owned_parts_.size();
  }
}

void DistributedDataParallel::set_hooks() {
  if (!is_sharded()) return;
  size_t layers = 0;
  for (const ModelPart& part : parts_) {
    check(part.module != nullptr || part.parameters.empty(),
          "Expected a model whose parts all say when they run with sharded parameters, but one "
          "does not; --data-parallel-sharding-strategy no_shard works");
    if (!part.module) continue;
    const size_t unit = part.is_layer ? ++layers : 0;
    ForwardHooks hooks;
    hooks.before = [this, unit, parameters = part.parameters] {
      if (gather_) gather_->wait_for(parameters);
      if (sharded_) sharded_->before_forward(unit);
    };
    if (sharded_) {
      hooks.after = [this, unit](const at::Tensor& output) {
        sharded_->after_forward(unit, output);
      };
    }
    part.module->set_forward_hooks(std::move(hooks));
  }
}

void DistributedDataParallel::zero_gradients() {
  sharded_ ? sharded_->zero_gradients() : gradients_->zero();
}

void DistributedDataParallel::reduce_with_backward_of(const at::Tensor& output) {
  if (!reduction_ || !output.requires_grad()) return;
  output.register_hook([this](const at::Tensor&) { reduction_->start_last_backward(); });
}

void DistributedDataParallel::finish_gradients() {
  sharded_ ? sharded_->finish_gradients() : reduction_->finish();
}

void DistributedDataParallel::scale_gradients(double factor) {
  const at::NoGradGuard no_grad;
  for (const ParameterPart& part : owned_parts_) part.main_grad.mul_(factor);
}

void DistributedDataParallel::begin_update() {
  wait_for_parameters();
}

void DistributedDataParallel::parts_updated(size_t count) {
  if (!gather_) return;
  size_t bucket = parts_behind_.size();
  while (bucket > 0 && parts_behind_[bucket - 1] <= count) --bucket;
  gather_->start_down_to(bucket);
}

void DistributedDataParallel::finish_update() {
  if (gather_) gather_->finish_update();
  release_parameters();
}

void DistributedDataParallel::wait_for_parameters() {
  if (gather_) gather_->wait_for_all();
}

void DistributedDataParallel::hold_parameters() {
  wait_for_parameters();
  if (sharded_) sharded_->hold_all_parameters();
}

void DistributedDataParallel::hold_gradients() {
  if (sharded_) return sharded_->hold_all_gradients();
  if (!is_sharded() || group_->size() == 1) return;
  for (size_t bucket = 0; bucket < gradients_->num_buckets(); ++bucket) {
    const FlatBuffer& whole = gradients_->bucket(bucket);
    group_->iall_gather(whole.tensor(), whole.shard(group_->rank(), group_->size()))->wait();
  }
}

void DistributedDataParallel::release_parameters() {
  if (sharded_) sharded_->release_parameters();
}

}  // namespace megatron
