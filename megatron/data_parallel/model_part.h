// What data parallelism knows of a model: parts that are read one after another.
#pragma once

#include <memory>
#include <vector>

#include "megatron/base/hooked_module.h"

namespace megatron {

// A part whose parameters are read together, when `module` runs.
struct ModelPart {
  std::shared_ptr<HookedModule> module;  // null: nobody is told, so that it cannot be sharded
  // All that is read from the module's forward pass to that of the next part; a parameter belongs
  // to the first part that lists it.
  std::vector<ParameterPtr> parameters;
  bool is_layer = false;  // one of many: with sharded parameters, held only while it runs
};

// The parameters that require a gradient; others are frozen.
inline std::vector<ParameterPtr> trained(std::vector<ParameterPtr> parameters) {
  std::erase_if(parameters, [](const ParameterPtr& p) { return !p->data.requires_grad(); });
  return parameters;
}

// Each parameter of the parts once, in their order.
std::vector<ParameterPtr> parameters_of(const std::vector<ModelPart>& parts);

}  // namespace megatron
