#include "megatron/data/json_line.h"

#include <optional>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr std::string_view kDigits = "0123456789";

// Whether `word` is a JSON number.
bool is_number(std::string_view word) {
  const auto skip_digits = [&word] {
    const size_t digits = std::min(word.find_first_not_of(kDigits), word.size());
    word.remove_prefix(digits);
    return digits > 0;
  };
  if (word.starts_with('-')) word.remove_prefix(1);
  if (word.starts_with('0')) {
    word.remove_prefix(1);
  } else if (!skip_digits()) {
    return false;
  }
  if (word.starts_with('.')) {
    word.remove_prefix(1);
    if (!skip_digits()) return false;
  }
  if (word.starts_with('e') || word.starts_with('E')) {
    word.remove_prefix(1);
    if (word.starts_with('+') || word.starts_with('-')) word.remove_prefix(1);
    if (!skip_digits()) return false;
  }
  return word.empty();
}

bool is_part_of_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
}

// Replaces every number, NaN and Infinity by a 0 and spaces. Offsets do not change; errors remain.
std::string with_zeros_for_numbers(std::string_view line) {
  std::string result(line);
  for (size_t i = 0; i < line.size();) {
    const size_t begin = i++;
    if (line[begin] == '"') {
      for (; i < line.size() && line[i] != '"'; ++i) {
        if (line[i] == '\\') ++i;
      }
      ++i;
    } else if (is_part_of_word(line[begin])) {
      while (i < line.size() && is_part_of_word(line[i])) ++i;
      const std::string_view word = line.substr(begin, i - begin);
      if (is_number(word) || word == "NaN" || word == "Infinity" || word == "-Infinity") {
        result.replace(begin, word.size(), "0" + std::string(word.size() - 1, ' '));
      }
    }
  }
  return result;
}

// Parses a line; on failure returns nullopt and sets `error_byte`.
std::optional<nlohmann::json> try_parse(std::string_view line, size_t& error_byte) {
  try {
    return nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception&) {
    // Perhaps because of a number.
  }
  try {
    return nlohmann::json::parse(with_zeros_for_numbers(line));
  } catch (const nlohmann::json::parse_error& error) {
    error_byte = error.byte;
    return std::nullopt;
  }
}

}  // namespace

nlohmann::json parse_json_line(std::string_view line, const std::string& place) {
  size_t error_byte = 0;
  auto value = try_parse(line, error_byte);
  check(value.has_value(),
        "Expected one JSON object per line, but {} is not valid JSON: error at "
        "byte {} of the line",
        place, error_byte);
  return *std::move(value);
}

bool is_json_object(std::string_view line) {
  size_t error_byte = 0;
  const auto value = try_parse(line, error_byte);
  return value && value->is_object();
}

}  // namespace megatron
