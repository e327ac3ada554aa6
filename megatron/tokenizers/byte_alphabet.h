// The alphabet of byte-level BPE files (GPT-2's bytes_to_unicode): each byte is written as one
// printable character. Printable Latin-1 characters stand for themselves, the other 68 bytes for
// U+0100 and up.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace megatron {

// The character, in UTF-8, that stands for each byte.
const std::array<std::string, 256>& byte_alphabet();

// The bytes that a token's spelling stands for; none if it has a character outside of the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

}  // namespace megatron
