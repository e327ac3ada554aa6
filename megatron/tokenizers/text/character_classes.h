// Unicode classes that pre-tokenizer expressions distinguish: letters, numbers,
// white space, and words.
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

// Whether \w of Rust's regular expressions matches, by code point: Alphabetic, M, Nd, Pc and
// Join_Control of Unicode 16.
bool is_word_character(uint32_t code_point);

struct ClassifiedCharacter {
  CharacterClass kind;
  size_t end;  // offset of the next character
};

// Class of the character at byte `i` of valid UTF-8 text.
ClassifiedCharacter classify(const CharacterClass* classes, std::string_view text, size_t i);

}  // namespace megatron
