#include "megatron/tokenizers/text/known_patterns.h"

#include "megatron/tokenizers/text/character_classes.h"

namespace megatron {
namespace {

using Match = std::pair<size_t, size_t>;
using Kind = CharacterClass;

constexpr Match kNoMatch{std::string_view::npos, std::string_view::npos};

// Walks through text by character classes.
class ClassScanner {
 public:
  explicit ClassScanner(std::string_view text) : text_(text), classes_(character_classes()) {}

  bool at_end(size_t i) const { return i >= text_.size(); }
  ClassifiedCharacter at(size_t i) const { return classify(classes_, text_, i); }
  bool is(size_t i, Kind kind) const { return !at_end(i) && at(i).kind == kind; }

  // End of the run of `kind` that begins at i, of at most `most` characters.
  size_t run(size_t i, Kind kind, size_t most = std::string_view::npos) const {
    for (; most > 0 && !at_end(i); --most) {
      const auto [here, end] = at(i);
      if (here != kind) break;
      i = end;
    }
    return i;
  }

  // \s+(?!\S)|\s+ at white space: the run, less its last character if other text follows and the
  // run is longer than one character.
  size_t white_space(size_t i) const {
    size_t last = i;
    size_t end = i;
    while (!at_end(end)) {
      const auto [kind, next] = at(end);
      if (kind != Kind::space && kind != Kind::newline) break;
      last = end;
      end = next;
    }
    return at_end(end) || last == i ? end : last;
  }

  // \s*[\r\n]+ at white space: the end of the last line end in the run, or i if there is none.
  size_t through_newline(size_t i) const {
    size_t end = i;
    while (!at_end(i)) {
      const auto [kind, next] = at(i);
      if (kind == Kind::newline) {
        end = next;
      } else if (kind != Kind::space) {
        break;
      }
      i = next;
    }
    return end;
  }

 private:
  std::string_view text_;
  const CharacterClass* classes_;
};

// Length of a contraction such as 's or 'll at i; 0 if there is none.
size_t contraction(std::string_view text, size_t i) {
  if (text[i] != '\'' || i + 1 >= text.size()) return 0;
  const char first = text[i + 1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (i + 2 >= text.size()) return 0;
  const char second = text[i + 2];
  const bool long_form = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                         (first == 'l' && second == 'l');
  return long_form ? 3 : 0;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

// The same for either case. Unicode's case folding maps U+017F, the long s, to s.
size_t contraction_in_any_case(std::string_view text, size_t i) {
  if (text[i] != '\'') return 0;
  char folded[3];
  const std::string_view rest = text.substr(i, 3);
  for (size_t k = 0; k < rest.size(); ++k) folded[k] = lower(rest[k]);
  if (const size_t length = contraction({folded, rest.size()}, 0)) return length;
  return rest == "'\xc5\xbf" ? 3 : 0;
}

Match scan_gpt2(std::string_view text, size_t from) {
  const ClassScanner scanner(text);
  if (const size_t length = contraction(text, from)) return {from, from + length};
  const size_t begin = text[from] == ' ' ? from + 1 : from;
  if (!scanner.at_end(begin)) {
    const auto [kind, end] = scanner.at(begin);
    if (kind != Kind::space && kind != Kind::newline) return {from, scanner.run(end, kind)};
  }
  return {from, scanner.white_space(from)};
}

// Llama 3 and Qwen; `digits`: numbers per word.
template <size_t digits>
Match scan_llama3(std::string_view text, size_t from) {
  const ClassScanner scanner(text);
  if (const size_t length = contraction_in_any_case(text, from)) return {from, from + length};
  const auto [kind, next] = scanner.at(from);
  if (kind == Kind::letter) return {from, scanner.run(next, Kind::letter)};
  if (kind == Kind::number) return {from, scanner.run(next, Kind::number, digits - 1)};
  if (kind != Kind::newline && scanner.is(next, Kind::letter)) {
    return {from, scanner.run(next, Kind::letter)};
  }
  const size_t begin = text[from] == ' ' ? next : from;
  if (scanner.is(begin, Kind::other)) {
    return {from, scanner.run(scanner.run(begin, Kind::other), Kind::newline)};
  }
  const size_t end = scanner.through_newline(from);
  return {from, end > from ? end : scanner.white_space(from)};
}

// Runs of at most `most` numbers.
template <size_t most>
Match scan_numbers(std::string_view text, size_t from) {
  const ClassScanner scanner(text);
  while (!scanner.at_end(from)) {
    const auto [kind, next] = scanner.at(from);
    if (kind == Kind::number) return {from, scanner.run(next, Kind::number, most - 1)};
    from = next;
  }
  return kNoMatch;
}

Match scan_everything(std::string_view text, size_t from) {
  return {from, text.size()};
}

constexpr size_t kAnyNumber = std::string_view::npos;

constexpr KnownPattern kKnownPatterns[] = {
    {kGpt2Words, scan_gpt2, WordBoundaries::at_spaces},
    {kLlama3Words, scan_llama3<3>, WordBoundaries::at_spaces},
    {kQwen2Words, scan_llama3<1>, WordBoundaries::at_spaces},
    {kO200kWords, nullptr, WordBoundaries::at_spaces},
    {kTikTokenV1Words, nullptr, WordBoundaries::at_spaces},
    {kTikTokenV2Words, nullptr, WordBoundaries::at_spaces},
    {R"(\p{N})", scan_numbers<1>, WordBoundaries::none},
    {R"(\p{N}+)", scan_numbers<kAnyNumber>, WordBoundaries::none},
    {R"(\p{N}{1,3})", scan_numbers<3>, WordBoundaries::none},
    {kEverything, scan_everything, WordBoundaries::none},
};

}  // namespace

const KnownPattern* find_known_pattern(std::string_view expression) {
  for (const auto& known : kKnownPatterns) {
    if (known.expression == expression) return &known;
  }
  return nullptr;
}

}  // namespace megatron
