// The fields of a configuration by name: lookup, and dictionaries as Megatron-Bridge stores them.
//
// A configuration takes part with a function `ConfigFields fields_of(Config&)`.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/config/model/field_value.h"
#include "megatron/config/model/model_config.h"

namespace megatron {

struct GPTModelConfig;
struct TransformerConfig;

struct ConfigField {
  std::string name;
  FieldValue value;
};

// References to the fields of a configuration, which must outlive them.
struct ConfigFields {
  std::string target;  // the name of its class, stored as `_target_`
  std::vector<ConfigField> fields;
  std::vector<std::pair<std::string, ConfigFields>> nested;  // configurations that it holds
  std::string* builder = nullptr;                            // stored as `_builder_`

  // The field with that name, here or in a nested configuration. Throws Error if there is none,
  // with the nearest name.
  const FieldValue& at(std::string_view name) const;
  // Null if there is none.
  const FieldValue* find(std::string_view name) const;
  std::vector<std::string> names() const;
};

ConfigFields fields_of(TransformerConfig& config);
ConfigFields fields_of(GPTModelConfig& config);
// The stored fields of the base, for a configuration's own list.
std::vector<ConfigField> base_fields(ModelConfig& config);

// A field that holds any JSON value that `is_valid` accepts; `expected` describes those.
FieldValue json_field(nlohmann::json& field, bool (*is_valid)(const nlohmann::json&),
                      const char* expected);

// Assigns a field as set_from_json does. Null sets the fields that are None by default in Megatron, but
// have a value of their own here (mtp_num_layers, ...), to that.
void set_field(const FieldValue& field, std::string_view name, const nlohmann::json& value);

nlohmann::json as_dict(const ConfigFields& fields);
// Fields that the object lacks stay as they are. Fields with one supported value (fixed_fields) may
// have that. Throws Error for another `_target_`, an unknown field (with the nearest) or a value of
// another type.
void read_dict(const ConfigFields& fields, const nlohmann::json& json);

template <typename Config>
nlohmann::json config_as_dict(const Config& config) {
  return as_dict(fields_of(const_cast<Config&>(config)));  // only read
}

template <typename Config>
Config config_from_dict(const nlohmann::json& json) {
  Config config;
  read_dict(fields_of(config), json);
  return config;
}

}  // namespace megatron
