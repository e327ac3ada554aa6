#include "megatron/base/megatron_module.h"

#include <algorithm>

namespace megatron {

template <typename Visit>
void MegatronModule::visit_parameters(const std::string& prefix, const Visit& visit) const {
  for (const auto& [name, parameter] : parameters_) visit(prefix + name, parameter);
  for (const auto& [name, module] : modules_) module->visit_parameters(prefix + name + ".", visit);
}

std::vector<ParameterPtr> MegatronModule::parameters() const {
  std::vector<ParameterPtr> all;
  visit_parameters("", [&](const std::string&, const ParameterPtr& parameter) {
    if (std::find(all.begin(), all.end(), parameter) == all.end()) all.push_back(parameter);
  });
  return all;
}

void MegatronModule::assign_names(const std::string& prefix) {
  visit_parameters(prefix, [](const std::string& name, const ParameterPtr& parameter) {
    parameter->name = name;
  });
}

}  // namespace megatron
