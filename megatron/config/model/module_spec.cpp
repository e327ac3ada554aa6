#include "megatron/config/model/module_spec.h"

#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"

namespace megatron {
namespace {

constexpr size_t kIndent = 2;

std::string parameter_text(const SpecParameter& parameter) {
  return std::visit([](const auto& value) { return fmt::format("{}", value); }, parameter);
}

std::string module_text(const ModuleSpec& spec) {
  std::string params;
  for (const auto& [name, value] : spec.params)
    params += fmt::format("{}{}={}", params.empty() ? "" : ", ", name, parameter_text(value));
  return params.empty() ? spec.module : fmt::format("{}({})", spec.module, params);
}

void append_lines(std::string& text, const std::string& label, const ModuleSpec& spec,
                  size_t depth) {
  text += fmt::format("{:{}}{}{}\n", "", depth * kIndent, label, module_text(spec));
  for (const auto& [slot, submodule] : spec.submodules)
    append_lines(text, slot + ": ", submodule, depth + 1);
  for (const auto& [from, to] : spec.sharded_state_dict_keys_map)
    text += fmt::format("{:{}}key {} is {}\n", "", (depth + 1) * kIndent, from, to);
}

}  // namespace

const ModuleSpec& ModuleSpec::submodule(const std::string& slot) const {
  static const ModuleSpec identity;
  const auto found = submodules.find(slot);
  return found == submodules.end() ? identity : found->second;
}

const ModuleSpec& ModuleSpec::at(std::string_view path) const {
  const size_t dot = path.find('.');
  const std::string slot(path.substr(0, dot));
  const auto found = submodules.find(slot);
  if (found == submodules.end()) {
    std::vector<std::string> slots;
    for (const auto& entry : submodules) slots.push_back(entry.first);
    fail("Expected a slot of {}, but got '{}'{}", module, slot, nearest_hint(slot, slots));
  }
  return dot == std::string_view::npos ? found->second : found->second.at(path.substr(dot + 1));
}

std::string to_string(const ModuleSpec& spec) {
  std::string text;
  append_lines(text, "", spec, 0);
  return text;
}

std::string to_string(const TransformerBlockSubmodules& spec, int64_t first_layer) {
  std::string text;
  for (size_t first = 0, end; first < spec.layer_specs.size(); first = end) {
    for (end = first + 1;
         end < spec.layer_specs.size() && spec.layer_specs[end] == spec.layer_specs[first];) {
      ++end;
    }
    append_lines(text,
                 end == first + 1 ? fmt::format("layer {}: ", first_layer + int64_t(first))
                                  : fmt::format("layers {} to {}: ", first_layer + int64_t(first),
                                                first_layer + int64_t(end) - 1),
                 spec.layer_specs[first], 0);
  }
  append_lines(text, "layer_norm: ", spec.layer_norm, 0);
  return text;
}

std::string to_string(const LayerSpec& spec, int64_t first_layer) {
  if (const auto* block = std::get_if<TransformerBlockSubmodules>(&spec))
    return to_string(*block, first_layer);
  return to_string(std::get<ModuleSpec>(spec));
}

}  // namespace megatron
