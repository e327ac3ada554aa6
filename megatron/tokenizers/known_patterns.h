// Pre-tokenizer expressions of published tokenizers, recognized by their text. Most are matched by
// hand-written scanners, several times as fast as a regular-expression engine; all say where text
// may be cut.
#pragma once

#include <string_view>
#include <utility>

namespace megatron {

// GPT-2's words: the default of Hugging Face's ByteLevel.
inline constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// All of a piece, line ends included.
inline constexpr const char* kEverything = R"((?m:.+))";

// How the words of an expression lie around two kinds of places in text:
//   before a space that follows a character that is not white space;
//   after a single newline, where the next character is neither white space nor '/'.
enum class WordBoundaries {
  unknown,
  none,       // no word depends on the text across such a place, but it may be inside a word
  at_spaces,  // the same, and a word always ends there
};

struct KnownPattern {
  // The first match at or after a byte offset, as PatternMatcher::find. Null: by Oniguruma.
  using Scanner = std::pair<size_t, size_t> (*)(std::string_view text, size_t from);
  std::string_view expression;
  Scanner scan;
  WordBoundaries boundaries;
};

// Null where the expression is not in the list.
const KnownPattern* find_known_pattern(std::string_view expression);

}  // namespace megatron
