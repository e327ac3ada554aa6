#include "megatron/tokenizers/text/json_node.h"

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

using nlohmann::json;

constexpr int kDeepestNesting = 16;
constexpr size_t kLongestQuote = 60;

const json& null_json() {
  static const json kNull;
  return kNull;
}

std::string type_of(const json& object) {
  if (!object.is_object()) return "";
  const auto found = object.find("type");
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// A value in an error message: a component by its type, a sequence by the types of its components,
// anything else by its JSON text.
std::string describe(const json& value, int depth = 0) {
  const std::string type = type_of(value);
  if (type.empty()) {
    if (value.size() > 1000) return fmt::format("{} of {} values", value.type_name(), value.size());
    std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
    return text.size() > kLongestQuote ? text.substr(0, kLongestQuote - 3) + "..." : text;
  }
  std::vector<std::string> components;
  for (const auto& [key, list] : value.items()) {
    if (type != "Sequence" || !list.is_array() || depth > kDeepestNesting) continue;
    for (const json& component : list) components.push_back(describe(component, depth + 1));
  }
  return components.empty() ? type : fmt::format("{} of {}", type, fmt::join(components, ", "));
}

}  // namespace

JsonNode JsonNode::operator[](const char* key) const {
  const std::string name = name_.empty() ? key : name_ + "." + key;
  if (!value_->is_object()) return {null_json(), *file_, name};
  const auto found = value_->find(key);
  return {found == value_->end() ? null_json() : *found, *file_, name};
}

std::string JsonNode::type() const {
  return type_of(*value_);
}

JsonNode JsonNode::element(size_t index) const {
  return {(*value_)[index], *file_, fmt::format("{}[{}]", name_, index)};
}

std::vector<JsonNode> JsonNode::elements() const {
  if (!value_->is_array()) refuse("a list");
  std::vector<JsonNode> result;
  result.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    result.push_back(element(i));
  }
  return result;
}

bool JsonNode::boolean(const char* key, std::optional<bool> otherwise) const {
  const JsonNode node = (*this)[key];
  if (node.is_null() && otherwise) return *otherwise;
  if (!node.value().is_boolean()) node.refuse("true or false");
  return node.value().get<bool>();
}

std::string JsonNode::text(const char* key, std::optional<std::string> otherwise) const {
  const JsonNode node = (*this)[key];
  if (node.is_null() && otherwise) return *otherwise;
  if (!node.value().is_string()) node.refuse("a text");
  return node.value().get<std::string>();
}

int64_t JsonNode::integer(const char* key, int64_t low, int64_t high,
                          std::optional<int64_t> otherwise) const {
  const JsonNode node = (*this)[key];
  if (node.is_null() && otherwise) return *otherwise;
  const bool fits = node.value().is_number_integer() && node.value() >= low && node.value() <= high;
  if (!fits) node.refuse(fmt::format("an integer from {} to {}", low, high));
  return node.value().get<int64_t>();
}

uint32_t JsonNode::character(const char* key) const {
  const std::string characters = text(key);
  if (characters.empty() || utf8_length(characters[0]) != characters.size()) {
    (*this)[key].refuse("one character");
  }
  return decode_utf8(characters);
}

void JsonNode::require_absent() const {
  const bool absent = value_->is_null() || *value_ == false || *value_ == "" || *value_ == 0.0;
  if (!absent) refuse("absent");
}

void JsonNode::refuse(const std::string& supported) const {
  fail("Expected {} of {} to be {}, but got {}, which this version does not support", name_, *file_,
       supported, describe(*value_));
}

void check_nesting(const JsonNode& node, int depth) {
  check(depth <= kDeepestNesting,
        "Expected at most {} sequences inside each other in {}, but {} has more", kDeepestNesting,
        node.file(), node.name());
}

}  // namespace megatron
