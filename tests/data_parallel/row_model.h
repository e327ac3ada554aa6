// Modules with parameters of many shapes, on thread ranks.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/parallel/model_groups.h"

#include "tests/parallel/thread_world.h"

namespace megatron {

class ShapedModule : public HookedModule {
 public:
  explicit ShapedModule(const std::vector<std::vector<int64_t>>& shapes) {
    for (const auto& shape : shapes) {
      register_parameter(
          fmt::format("p{}", parameters().size()),
          std::make_shared<Parameter>(shape, at::TensorOptions().dtype(at::kDouble),
                                      TensorParallelSharding{}, Initialization::constant(0)));
    }
  }
  void forward() const {
    with_hooks([] { return at::zeros({1}); });
  }
};

// Fewer rows than ranks, one row, rows that no number of ranks divides, one and three dimensions.
inline const std::vector<std::vector<std::vector<int64_t>>> kShapesOfUnits = {
    {{11, 3}, {2, 5}}, {{7, 4}, {5}, {1}, {3, 2, 3}}, {{1, 6}, {8, 2}, {4}}};

// The first unit is no layer. Element i of every parameter has the value offset + i.
struct ShapedModel {
  explicit ShapedModel(double offset = 0) {
    const at::NoGradGuard no_grad;
    for (size_t unit = 0; unit < kShapesOfUnits.size(); ++unit) {
      modules.push_back(std::make_shared<ShapedModule>(kShapesOfUnits[unit]));
      modules.back()->assign_names(fmt::format("units.{}.", unit));
      groups.push_back({modules.back(), modules.back()->parameters(), /*is_layer=*/unit > 0});
    }
    for (const ParameterPtr& parameter : parameters()) {
      parameter->data.copy_(
          at::arange(parameter->data.numel(), at::kDouble).add(offset).view_as(parameter->data));
    }
  }
  std::vector<ParameterPtr> parameters() const { return parameters_of(groups); }

  std::vector<std::shared_ptr<ShapedModule>> modules;
  std::vector<ModuleGroup> groups;
};

// Calls `body(dp)` on `ranks` data-parallel ranks.
inline void run_data_parallel(int ranks, const std::function<void(const ProcessGroupPtr&)>& body) {
  run_thread_world(
      ranks, [&](RankContext& rank) { body(make_model_groups(TransformerConfig(), rank).dp_cp); });
}

}  // namespace megatron
