// Dictionaries of configurations as YAML text.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace megatron {

// Strings are quoted, so that every value keeps its type.
std::string json_to_yaml(const nlohmann::json& json);
// Plain scalars are null, true, false, numbers, or else strings. Throws Error with the line for
// text that is not YAML.
nlohmann::json yaml_to_json(const std::string& text);

}  // namespace megatron
