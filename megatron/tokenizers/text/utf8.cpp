#include "megatron/tokenizers/text/utf8.h"

#include <cstring>

namespace megatron {
namespace {

unsigned char byte_at(std::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

bool continues(std::string_view text, size_t i, unsigned char low = 0x80,
               unsigned char high = 0xBF) {
  return i < text.size() && byte_at(text, i) >= low && byte_at(text, i) <= high;
}

// Length of the valid code point at i, or 0: Unicode's table 3-7, well-formed byte sequences.
size_t valid_length(std::string_view text, size_t i) {
  const unsigned char first = byte_at(text, i);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  if (first < 0xE0) return continues(text, i + 1) ? 2 : 0;
  if (first < 0xF0) {
    const unsigned char low = first == 0xE0 ? 0xA0 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : 0xBF;
    return continues(text, i + 1, low, high) && continues(text, i + 2) ? 3 : 0;
  }
  const unsigned char low = first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xF4 ? 0x8F : 0xBF;
  const bool valid =
      continues(text, i + 1, low, high) && continues(text, i + 2) && continues(text, i + 3);
  return valid ? 4 : 0;
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    // Eight ASCII bytes at a time.
    while (i + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + i, 8);
      if ((word & 0x8080808080808080u) != 0) break;
      i += 8;
    }
    if (i == text.size()) break;
    const size_t length = valid_length(text, i);
    if (length == 0) break;
    i += length;
  }
  return i;
}

size_t invalid_utf8_prefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size() && valid_length(text, i) == 0) ++i;
  return i;
}

size_t utf8_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

void append_utf8(uint32_t code_point, std::string& text) {
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | (code_point >> 6));
    text += static_cast<char>(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | (code_point >> 12));
    text += static_cast<char>(0x80 | ((code_point >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (code_point & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | (code_point >> 18));
    text += static_cast<char>(0x80 | ((code_point >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((code_point >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (code_point & 0x3F));
  }
}

uint32_t decode_utf8(std::string_view text) {
  const size_t length = utf8_length(text[0]);
  uint32_t code_point = byte_at(text, 0) & (length == 1 ? 0x7F : 0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) code_point = code_point << 6 | (byte_at(text, i) & 0x3F);
  return code_point;
}

std::string with_replacements(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    result += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    append_utf8(0xFFFD, result);
    // A shorter piece begins a character if some continuation makes it valid.
    size_t length = 1;
    for (const size_t longer : {2, 3}) {
      std::string completed(text.substr(0, longer));
      if (completed.size() < longer || utf8_length(text[0]) <= longer) break;
      completed.resize(utf8_length(text[0]), '\x80');
      if (valid_utf8_prefix(completed) == 0) break;
      length = longer;
    }
    text.remove_prefix(length);
  }
  return result;
}

size_t last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (byte_at(text, begin) & 0xC0) == 0x80) --begin;
  return begin;
}

bool is_white_space(uint32_t code_point) {
  return (code_point >= 0x09 && code_point <= 0x0D) || code_point == 0x20 || code_point == 0x85 ||
         code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 ||
         code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F ||
         code_point == 0x3000;
}

}  // namespace megatron
