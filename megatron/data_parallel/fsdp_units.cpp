#include "megatron/data_parallel/fsdp_units.h"

#include <limits>
#include <set>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/graph_task.h>

namespace megatron {

FsdpUnits::FsdpUnits(const std::vector<ModuleGroup>& groups, BucketRules rules) {
  std::vector<std::vector<ParameterPtr>> parameters(1);  // by unit
  std::set<const Parameter*> known;
  for (const ModuleGroup& group : groups) {
    unit_of_group.push_back(group.is_layer ? parameters.size() : kNonLayerUnit);
    if (group.is_layer) parameters.emplace_back();
    for (const ParameterPtr& parameter : group.parameters) {
      if (known.insert(parameter.get()).second)
        parameters[unit_of_group.back()].push_back(parameter);
    }
  }
  buckets.resize(parameters.size());
  for (size_t unit = parameters.size(); unit-- > 0;) {
    BucketRules of_unit = rules;
    if (unit != kNonLayerUnit) of_unit.bucket_size = std::numeric_limits<int64_t>::max();
    for (BucketLayout& layout : plan_buckets(parameters[unit], of_unit)) {
      buckets[unit].push_back(layouts.size());
      layouts.push_back(std::move(layout));
    }
  }
}

bool is_in_backward() {
  return torch::autograd::get_current_graph_task_id() != -1;
}

void call_at_backward_of(const at::Tensor& output, std::function<void()> begin) {
  if (!at::GradMode::is_enabled() || !output.requires_grad()) return;
  output.register_hook([begin = std::move(begin)](const at::Tensor&) { begin(); });
}

}  // namespace megatron
