// A value of a JSON file together with its place in it: reads fields of components and names the
// place in errors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace megatron {

class JsonNode {
 public:
  // `root` and `file` must outlive the node.
  JsonNode(const nlohmann::json& root, const std::string& file) : value_(&root), file_(&file) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& file() const { return *file_; }
  const std::string& name() const { return name_; }

  // A member of an object; null if there is none.
  JsonNode operator[](const char* key) const;
  bool is_null() const { return value_->is_null(); }
  // The "type" of a component; "" if it has none.
  std::string type() const;

  // An element of a list.
  JsonNode element(size_t index) const;
  // All elements of a list. Throws Error for anything else.
  std::vector<JsonNode> elements() const;

  // Members of an object. Throw Error for another type, and without `otherwise` if it is absent.
  bool boolean(const char* key, std::optional<bool> otherwise = std::nullopt) const;
  std::string text(const char* key, std::optional<std::string> otherwise = std::nullopt) const;
  int64_t integer(const char* key, int64_t low, int64_t high,
                  std::optional<int64_t> otherwise = std::nullopt) const;
  // The only code point of a text.
  uint32_t character(const char* key) const;

  // Throws Error unless the value is null, false, "" or 0.
  void require_absent() const;

  [[noreturn]] void refuse(const std::string& supported) const;

 private:
  JsonNode(const nlohmann::json& value, const std::string& file, std::string name)
      : value_(&value), file_(&file), name_(std::move(name)) {}

  const nlohmann::json* value_;
  const std::string* file_;
  std::string name_;
};

// Components nest (a Sequence holds components). Throws Error beyond a depth that no real file has.
void check_nesting(const JsonNode& node, int depth);

}  // namespace megatron
