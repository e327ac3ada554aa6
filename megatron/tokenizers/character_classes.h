// Unicode classes that pre-tokenizer expressions distinguish: letters, numbers and white space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace megatron {

enum class CharacterClass : uint8_t {
  other,    // [^\s\p{L}\p{N}]
  letter,   // \p{L}
  number,   // \p{N}
  space,    // \s except line ends
  newline,  // [\r\n]
};

// A table of CharacterClass indexed by code point (0 to U+10FFFF), built on first use from
// Oniguruma's own tables, plus the letters and numbers that Unicode 15 and 16 added.
const CharacterClass* character_classes();

struct ClassifiedCharacter {
  CharacterClass kind;
  size_t end;  // offset of the next character
};

// Class of the character at byte `i` of valid UTF-8 text.
ClassifiedCharacter classify(const CharacterClass* classes, std::string_view text, size_t i);

}  // namespace megatron
