#include "megatron/formats/json_file.h"

#include "megatron/base/error.h"
#include "megatron/base/mapped_file.h"

namespace megatron {

std::string read_text_file(const std::string& path, const std::string& what) {
  check(!path.empty(), "Expected {}, but no file was given", what);
  const MappedFile file(path);
  return std::string(reinterpret_cast<const char*>(file.data()), file.size());
}

nlohmann::json read_json_file(const std::string& path, const std::string& what) {
  check(!path.empty(), "Expected {}, but no file was given", what);
  const MappedFile file(path);
  const auto* begin = reinterpret_cast<const char*>(file.data());
  try {
    return nlohmann::json::parse(begin, begin + file.size());
  } catch (const nlohmann::json::parse_error& error) {
    fail("Expected {}, but {} is not valid JSON: syntax error at byte {}", what, path, error.byte);
  }
}

}  // namespace megatron
