#include "megatron/formats/json_file.h"

#include <algorithm>

#include "megatron/base/error.h"
#include "megatron/base/mapped_file.h"

namespace megatron {
namespace {

// The number of the line that holds byte `offset`.
int64_t line_of(std::string_view text, size_t offset) {
  return 1 + std::ranges::count(text.substr(0, offset), '\n');
}

}  // namespace

std::string read_text_file(const std::string& path, const std::string& what) {
  check(!path.empty(), "Expected {}, but no file was given", what);
  const MappedFile file(path);
  return std::string(reinterpret_cast<const char*>(file.data()), file.size());
}

nlohmann::json read_json_file(const std::string& path, const std::string& what) {
  check(!path.empty(), "Expected {}, but no file was given", what);
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail("Expected {}, but {} is not valid JSON: syntax error in line {}, at byte {} of the file",
         what, path, line_of(text, error.byte), error.byte);
  } catch (const nlohmann::json::out_of_range& error) {
    // A number that overflows. The message quotes it, without its position.
    const std::string message = error.what();
    const size_t quote = message.find('\'') + 1;
    const std::string number = message.substr(quote, message.rfind('\'') - quote);
    fail("Expected {}, but the number {} in line {} of {} is beyond the range of double", what,
         number, line_of(text, text.find(number)), path);
  }
}

}  // namespace megatron
