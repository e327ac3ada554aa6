// JSON of module specs.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/model/module_spec.h"

namespace megatron {
namespace {

// A JSON value and where it stands, for messages.
struct SpecJson {
  const nlohmann::json& json;
  std::string path;

  SpecJson member(const std::string& name) const { return {json.at(name), path + "." + name}; }
};

void check_object(const SpecJson& value) {
  check(value.json.is_object(), "Expected an object at {} of a spec, but got {}", value.path,
        value.json.dump());
}

void check_members(const SpecJson& value, const std::vector<std::string>& known) {
  check_object(value);
  for (const auto& [name, member] : value.json.items()) {
    check(std::find(known.begin(), known.end(), name) != known.end(),
          "Expected the members {} at {} of a spec, but got '{}'{}", fmt::join(known, ", "),
          value.path, name, nearest_hint(name, known));
  }
}

std::string spec_text(const SpecJson& value) {
  check(value.json.is_string(), "Expected a string at {} of a spec, but got {}", value.path,
        value.json.dump());
  return value.json.get<std::string>();
}

SpecParameter spec_parameter(const SpecJson& value) {
  const nlohmann::json& json = value.json;
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned()) {
    check(json.get<uint64_t>() <= uint64_t{INT64_MAX},
          "Expected a 64-bit integer at {} of a spec, but got {}", value.path, json.dump());
  }
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number_float()) return json.get<double>();
  check(json.is_string(), "Expected a boolean, a number or a string at {} of a spec, but got {}",
        value.path, json.dump());
  return json.get<std::string>();
}

// Members of the object `name`, each read by `read`; empty if there is none.
template <typename Read>
auto spec_members(const SpecJson& spec, const std::string& name, const Read& read) {
  std::map<std::string, decltype(read(spec))> result;
  if (!spec.json.contains(name)) return result;
  const SpecJson object = spec.member(name);
  check_object(object);
  for (const auto& entry : object.json.items())
    result.emplace(entry.key(), read(object.member(entry.key())));
  return result;
}

ModuleSpec read_module_spec(const SpecJson& value) {
  check_members(value, {"module", "params", "submodules", "sharded_state_dict_keys_map"});
  check(value.json.contains("module"), "Expected a module at {} of a spec, but got {}", value.path,
        value.json.dump());
  return {
      .module = spec_text(value.member("module")),
      .params = spec_members(value, "params", spec_parameter),
      .submodules = spec_members(value, "submodules", read_module_spec),
      .sharded_state_dict_keys_map = spec_members(value, "sharded_state_dict_keys_map", spec_text)};
}

}  // namespace

nlohmann::json to_json(const ModuleSpec& spec) {
  nlohmann::json json = {{"module", spec.module}};
  for (const auto& [name, value] : spec.params) {
    std::visit([&json, &name = name](const auto& held) { json["params"][name] = held; }, value);
  }
  for (const auto& [slot, submodule] : spec.submodules)
    json["submodules"][slot] = to_json(submodule);
  for (const auto& [from, to] : spec.sharded_state_dict_keys_map)
    json["sharded_state_dict_keys_map"][from] = to;
  return json;
}

nlohmann::json to_json(const TransformerBlockSubmodules& spec) {
  nlohmann::json layers = nlohmann::json::array();
  for (const ModuleSpec& layer : spec.layer_specs) layers.push_back(to_json(layer));
  return {{"layer_specs", layers}, {"layer_norm", to_json(spec.layer_norm)}};
}

ModuleSpec module_spec_from_json(const nlohmann::json& json) {
  return read_module_spec({json, "the top"});
}

TransformerBlockSubmodules block_spec_from_json(const nlohmann::json& json) {
  const SpecJson block{json, "the top"};
  check_members(block, {"layer_specs", "layer_norm"});
  for (const char* name : {"layer_specs", "layer_norm"})
    check(json.contains(name), "Expected {} in a block spec, but got {}", name, json.dump());
  const SpecJson layers = block.member("layer_specs");
  check(layers.json.is_array(), "Expected a list at {} of a spec, but got {}", layers.path,
        layers.json.dump());
  TransformerBlockSubmodules spec{.layer_specs = {},
                                  .layer_norm = read_module_spec(block.member("layer_norm"))};
  for (size_t i = 0; i < layers.json.size(); ++i) {
    spec.layer_specs.push_back(
        read_module_spec({layers.json.at(i), fmt::format("{}[{}]", layers.path, i)}));
  }
  return spec;
}

}  // namespace megatron
