#include "megatron/config/model/config_fields.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/model/fixed_fields.h"

namespace megatron {

const FieldValue* ConfigFields::find(std::string_view name) const {
  for (const ConfigField& field : fields) {
    if (field.name == name) return &field.value;
  }
  for (const auto& [member, inner] : nested) {
    if (const FieldValue* value = inner.find(name)) return value;
  }
  return nullptr;
}

std::vector<std::string> ConfigFields::names() const {
  std::vector<std::string> result;
  for (const ConfigField& field : fields) result.push_back(field.name);
  for (const auto& [member, inner] : nested) {
    for (std::string& name : inner.names()) result.push_back(std::move(name));
  }
  return result;
}

const FieldValue& ConfigFields::at(std::string_view name) const {
  const FieldValue* value = find(name);
  if (value == nullptr) {
    fail("Expected a field of {}, but got '{}'; the nearest is {}", target, name,
         nearest_name(name, names()));
  }
  return *value;
}

std::vector<ConfigField> base_fields(ModelConfig& config) {
  return {{"restore_modelopt_state", &config.restore_modelopt_state},
          {"extra_checkpoint_metadata",
           json_field(
               config.extra_checkpoint_metadata,
               [](const nlohmann::json& json) { return json.is_null() || json.is_object(); },
               "an object or null")}};
}

FieldValue json_field(nlohmann::json& field, bool (*is_valid)(const nlohmann::json&),
                      const char* expected) {
  return JsonReference{
      &field, [&field] { return field; },
      [&field, is_valid, expected](const nlohmann::json& json, std::string_view subject) {
        check(is_valid(json), "Expected {} for {}, but got '{}'", expected, subject, json.dump());
        field = json;
      }};
}

nlohmann::json as_dict(const ConfigFields& fields) {
  nlohmann::json json = {{"_target_", fields.target}};
  if (fields.builder != nullptr) json["_builder_"] = *fields.builder;
  for (const ConfigField& field : fields.fields) json[field.name] = to_json(field.value);
  for (const auto& [member, inner] : fields.nested) json[member] = as_dict(inner);
  return json;
}

void set_field(const FieldValue& field, std::string_view name, const nlohmann::json& value) {
  static const std::map<std::string, nlohmann::json, std::less<>> of_none = {
      {"cp_comm_type", "p2p"}, {"mtp_num_layers", 0}, {"pipeline_model_parallel_layout", ""}};
  const auto found = value.is_null() ? of_none.find(name) : of_none.end();
  set_from_json(field, found == of_none.end() ? value : found->second, name);
}

void read_dict(const ConfigFields& fields, const nlohmann::json& json) {
  check(json.is_object(), "Expected an object for {}, but got '{}'", fields.target, json.dump());
  const nlohmann::json target = json.value("_target_", nlohmann::json());
  check(target == fields.target, "Expected _target_ to be {}, but got {}", fields.target,
        target.is_null() ? "none" : target.dump());
  std::vector<std::string> keys;
  for (const ConfigField& field : fields.fields) keys.push_back(field.name);
  for (const auto& [member, inner] : fields.nested) keys.push_back(member);
  for (const auto& [key, value] : json.items()) {
    if (key == "_target_") continue;
    if (key == "_builder_" && fields.builder != nullptr) {
      set_from_json(fields.builder, value, key);
      continue;
    }
    const auto nested =
        std::ranges::find(fields.nested, key, [](const auto& inner) { return inner.first; });
    if (nested != fields.nested.end()) {
      read_dict(nested->second, value);
      continue;
    }
    const auto field = std::ranges::find(fields.fields, key, &ConfigField::name);
    if (field == fields.fields.end() && find_fixed_field(key, value) != nullptr) continue;
    if (field == fields.fields.end()) {
      fail("Expected a field of {}, but got '{}'; the nearest is {}", fields.target, key,
           nearest_name(key, keys));
    }
    set_field(field->value, key, value);
  }
}

}  // namespace megatron
