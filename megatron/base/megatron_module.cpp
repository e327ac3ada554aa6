#include "megatron/base/megatron_module.h"

#include <algorithm>
#include <set>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

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

void MegatronModule::set_sharded_state_dict_keys_map(std::map<std::string, std::string> map) {
  keys_map_.clear();
  const NamedParameters all = named_parameters();
  for (const auto& entry : map) {
    const std::string& from = entry.first;
    const bool is_used =
        std::ranges::any_of(all, [&](const auto& named) { return named.first.starts_with(from); });
    if (is_used) continue;
    std::vector<std::string> names;
    for (const auto& named : all) names.push_back(named.first);
    fail(
        "Expected every entry of sharded_state_dict_keys_map to begin the name of a parameter of "
        "its module, but '{}' begins none of {}",
        from, fmt::join(names, ", "));
  }
  keys_map_ = std::move(map);
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
