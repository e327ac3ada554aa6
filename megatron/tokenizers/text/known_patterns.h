// Pre-tokenizer expressions of published tokenizers, recognized by their text. Hand-written
// scanners match most of them, several times as fast as a regular-expression engine. For all of
// them it is known where text can be split.
#pragma once

#include <string_view>
#include <utility>

namespace megatron {

// GPT-2's words: the default of Hugging Face's ByteLevel.
inline constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Qwen 2 and 3.
inline constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
// o200k: gpt-oss, Llama 4.
inline constexpr const char* kO200kWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Megatron's expressions for TikTokenizer.
inline constexpr const char* kTikTokenV1Words =
    R"([^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
inline constexpr const char* kTikTokenV2Words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// A complete piece, line ends included.
inline constexpr const char* kEverything = R"((?m:.+))";

// How the words of an expression relate to two kinds of places in text:
//   before a space that follows a character that is not white space;
//   after a single newline, where the next character is neither white space nor '/'.
enum class WordBoundaries {
  unknown,
  none,       // words on one side do not depend on text on the other; one may span the place
  at_spaces,  // as none, and a word always ends there
};

struct KnownPattern {
  // The first match at or after a byte offset, as PatternMatcher::find. Null: Oniguruma matches.
  using Scanner = std::pair<size_t, size_t> (*)(std::string_view text, size_t from);
  std::string_view expression;
  Scanner scan;
  WordBoundaries boundaries;
};

// Null if the expression is not in the list.
const KnownPattern* find_known_pattern(std::string_view expression);

}  // namespace megatron
