// UTF-8: where text is valid, and code points to bytes and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace megatron {

// Bytes at the start of `text` that are valid UTF-8 (no surrogates, no overlong forms, at most
// U+10FFFF).
size_t valid_utf8_prefix(std::string_view text);

// Bytes of the code point that begins valid text: 1 to 4.
size_t utf8_length(char first);

void append_utf8(uint32_t code_point, std::string& text);

// The code point that begins valid text.
uint32_t decode_utf8(std::string_view text);

// Unicode's White_Space property.
bool is_white_space(uint32_t code_point);

}  // namespace megatron
