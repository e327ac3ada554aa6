// UTF-8: validation, encoding and decoding of code points.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace megatron {

// Length in bytes of the longest valid UTF-8 prefix (no surrogates, no overlong forms, at most
// U+10FFFF).
size_t valid_utf8_prefix(std::string_view text);

// Length in bytes of the run at the front in which no valid character begins.
size_t invalid_utf8_prefix(std::string_view text);

// Length in bytes (1 to 4) of a valid code point by its first byte.
size_t utf8_length(char first);

void append_utf8(uint32_t code_point, std::string& text);

// The first code point of valid, non-empty text.
uint32_t decode_utf8(std::string_view text);

// The text with U+FFFD in place of what is not UTF-8: one for each longest piece that begins a
// character, as Unicode recommends.
std::string with_replacements(std::string_view text);

// Calls visit(code point, begin, end) for each character of valid text.
template <typename Visit>
void visit_characters(std::string_view text, Visit&& visit) {
  for (size_t i = 0; i < text.size();) {
    const size_t end = i + utf8_length(text[i]);
    visit(decode_utf8(text.substr(i)), i, end);
    i = end;
  }
}

// Offset at which the last character of valid, non-empty text begins.
size_t last_character(std::string_view text);

// Unicode's White_Space property.
bool is_white_space(uint32_t code_point);

}  // namespace megatron
