// The alphabet of byte-level BPE files (GPT-2's bytes_to_unicode): one printable character per
// byte. Printable Latin-1 characters stand for themselves; the other 68 bytes map to U+0100 and up.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace megatron {

// The UTF-8 character for each byte.
const std::array<std::string, 256>& byte_alphabet();

// The bytes of a token's spelling; nullopt if a character is not in the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

}  // namespace megatron
