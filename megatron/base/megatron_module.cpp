#include "megatron/base/megatron_module.h"

#include <algorithm>
#include <set>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

MegatronModule::NamedParameters MegatronModule::named_parameters() const {
  NamedParameters all = parameters_;
  for (const auto& [name, module] : modules_) {
    for (auto& [inner, parameter] : module->named_parameters())
      all.emplace_back(name + "." + inner, std::move(parameter));
  }
  if (keys_map_.empty()) return all;
  std::set<std::string> names;
  for (auto& entry : all) {
    for (const auto& [from, to] : keys_map_) {
      if (!entry.first.starts_with(from)) continue;
      entry.first.replace(0, from.size(), to);
      break;
    }
    check(
        names.insert(entry.first).second,
        "Expected different names of a module's parameters, but sharded_state_dict_keys_map gives "
        "two of them the name {}",
        entry.first);
  }
  return all;
}

std::vector<ParameterPtr> MegatronModule::parameters() const {
  std::vector<ParameterPtr> all;
  for (const auto& [name, parameter] : named_parameters()) {
    if (std::find(all.begin(), all.end(), parameter) == all.end()) all.push_back(parameter);
  }
  return all;
}

void MegatronModule::convert_parameters(at::ScalarType dtype) {
  for (const ParameterPtr& parameter : parameters()) {
    at::Tensor& data = parameter->data;
    if (!data.is_floating_point() || parameter->keep_fp32 || data.scalar_type() == dtype) continue;
    data.set_data(data.detach().to(dtype));
  }
  notify_of_conversion(dtype);
}

void MegatronModule::notify_of_conversion(at::ScalarType dtype) {
  on_conversion(dtype);
  for (const auto& [name, module] : modules_) module->notify_of_conversion(dtype);
}

void MegatronModule::assign_names(const std::string& prefix) {
  for (const auto& [name, parameter] : named_parameters()) parameter->name = prefix + name;
}

std::vector<std::shared_ptr<MegatronModule>> MegatronModule::descendants() const {
  std::vector<std::shared_ptr<MegatronModule>> all;
  for (const auto& [name, module] : modules_) {
    all.push_back(module);
    for (auto& inner : module->descendants()) all.push_back(std::move(inner));
  }
  return all;
}

std::shared_ptr<MegatronModule> MegatronModule::find_module(std::string_view path) const {
  for (const auto& [name, module] : modules_) {
    if (path == name) return module;
    if (path.starts_with(name) && path.substr(name.size()).starts_with('.')) {
      if (auto found = module->find_module(path.substr(name.size() + 1))) return found;
    }
  }
  return nullptr;
}

}  // namespace megatron
