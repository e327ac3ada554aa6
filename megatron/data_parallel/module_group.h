// What data parallelism knows of a model: groups of modules in forward order.
#pragma once

#include <memory>
#include <vector>

#include "megatron/base/hooked_module.h"

namespace megatron {

// Parameters that are read together, from the forward pass of `module` on.
struct ModuleGroup {
  // Its forward hooks unshard the parameters. Null: the group cannot be sharded.
  std::shared_ptr<HookedModule> module;
  // Every parameter read between this module's forward pass and that of the next group. A parameter
  // that several groups list belongs to the first of them.
  std::vector<ParameterPtr> parameters;
  // A transformer layer: where parameters are sharded, they are unsharded only while it runs.
  bool is_layer = false;
};

// A model that data parallelism can wrap.
class GroupedModule {
 public:
  virtual ~GroupedModule() = default;
  // In forward order.
  virtual std::vector<ModuleGroup> module_groups() const = 0;
};

// The parameters that require a gradient; the others are frozen.
inline std::vector<ParameterPtr> trainable(std::vector<ParameterPtr> parameters) {
  std::erase_if(parameters, [](const ParameterPtr& p) { return !p->data.requires_grad(); });
  return parameters;
}

// Each parameter of the groups once, in their order.
std::vector<ParameterPtr> parameters_of(const std::vector<ModuleGroup>& groups);

}  // namespace megatron
