#include "megatron/config/options/fields_as_flags.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

std::string_view take_word(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && is_word_character(text[end])) ++end;
  return text.substr(at, end - at);
}

// The flag that sets `option` to `value`.
std::string flag_with_value(const Option& option, std::string_view value) {
  Options scratch;
  if (!is_bool(option.value(scratch))) return fmt::format("--{} {}", option.flag, value);
  const bool on = (value == "true") != option.inverted;
  return fmt::format("--{}{}", option.flag, on ? "" : "=false");
}

}  // namespace

std::string fields_as_flags(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const std::string_view word = take_word(text, at);
    if (word.empty()) {
      result += text[at++];
      continue;
    }
    const bool quoted = at > 0 && (text[at - 1] == '\'' || text[at - 1] == '-');
    at += word.size();
    const char next = at < text.size() ? text[at] : ' ';
    const std::string_view value = next == '=' ? take_word(text, at + 1) : std::string_view();
    const bool may_be_field = !quoted && (word.find('_') != word.npos || !value.empty());
    if (may_be_field && next == '*') {
      result += fmt::format("--{}", word);
      std::replace(result.end() - static_cast<long>(word.size()), result.end(), '_', '-');
      continue;
    }
    const Option* option = may_be_field ? option_table().find_field(word) : nullptr;
    if (option == nullptr) {
      result += word;
    } else if (value.empty()) {
      result += option->display();
    } else {
      result += flag_with_value(*option, value);
      at += 1 + value.size();
    }
  }
  return result;
}

}  // namespace megatron
