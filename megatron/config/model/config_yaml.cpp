#include "megatron/config/model/config_yaml.h"

#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

void emit(YAML::Emitter& out, const nlohmann::json& json) {
  if (json.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, value] : json.items()) {
      out << YAML::Key << key << YAML::Value;
      emit(out, value);
    }
    out << YAML::EndMap;
  } else if (json.is_array()) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const auto& item : json) emit(out, item);
    out << YAML::EndSeq;
  } else if (json.is_string()) {
    out << YAML::DoubleQuoted << json.get<std::string>();
  } else if (json.is_null()) {
    out << YAML::Null;
  } else if (json.is_boolean()) {
    out << json.get<bool>();
  } else {
    out << json.dump();
  }
}

nlohmann::json scalar_value(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text.empty() || text == "~") return nullptr;
  if (nlohmann::json::accept(text)) return nlohmann::json::parse(text);
  double number = 0;  // forms that JSON lacks, such as 1. and .5
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = error == std::errc{} && end == text.data() + text.size();
  return is_number && std::isfinite(number) ? nlohmann::json(number) : nlohmann::json(text);
}

nlohmann::json node_value(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return scalar_value(node);
    case YAML::NodeType::Sequence: {
      nlohmann::json list = nlohmann::json::array();
      for (const auto& item : node) list.push_back(node_value(item));
      return list;
    }
    case YAML::NodeType::Map: {
      nlohmann::json object = nlohmann::json::object();
      for (const auto& entry : node) {
        const std::string key = entry.first.as<std::string>();
        check(!object.contains(key), "Expected the key '{}' once, but got it twice", key);
        object[key] = node_value(entry.second);
      }
      return object;
    }
    default:
      return nullptr;
  }
}

}  // namespace

std::string json_to_yaml(const nlohmann::json& json) {
  YAML::Emitter out;
  emit(out, json);
  return std::string(out.c_str()) + "\n";
}

nlohmann::json yaml_to_json(const std::string& text) {
  try {
    return node_value(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    fail("Expected YAML, but got in line {}: {}", error.mark.line + 1, error.msg);
  }
}

}  // namespace megatron
