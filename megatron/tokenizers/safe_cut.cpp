#include "megatron/tokenizers/safe_cut.h"

#include <algorithm>

#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

// Whether a valid character other than white space ends at byte `end`.
bool follows_visible_character(std::string_view text, size_t end) {
  if (end == 0) return false;
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const std::string_view character = text.substr(begin, end - begin);
  return valid_utf8_prefix(character) == character.size() &&
         utf8_length(character[0]) == character.size() && !is_white_space(decode_utf8(character));
}

bool begins_with_visible_character(std::string_view text) {
  if (text.empty()) return false;
  const std::string_view character = text.substr(0, utf8_length(text[0]));
  return valid_utf8_prefix(character) == utf8_length(text[0]) &&
         !is_white_space(decode_utf8(character));
}

}  // namespace

SafeCutFinder::SafeCutFinder(const std::vector<PreTokenizerStep>& steps,
                             const std::vector<const std::vector<AddedToken>*>& added_tokens) {
  const auto boundaries_are = [](WordBoundaries boundaries) {
    return [boundaries](const PreTokenizerStep& step) {
      return step.pattern.boundaries() == boundaries;
    };
  };
  possible_ = std::ranges::any_of(steps, boundaries_are(WordBoundaries::at_spaces)) &&
              std::ranges::none_of(steps, boundaries_are(WordBoundaries::unknown));
  after_newlines_ = std::ranges::none_of(steps, &PreTokenizerStep::add_prefix_space);
  for (const auto* tokens : added_tokens) {
    for (const auto& token : *tokens) {
      added_tokens_.push_back(token.content);
      longest_added_token_ = std::max(longest_added_token_, token.content.size());
    }
  }
}

size_t SafeCutFinder::last(std::string_view text, size_t limit) const {
  if (!possible_ || text.empty()) return 0;
  for (size_t cut = std::min(limit, text.size() - 1); cut > 0; --cut) {
    if (separates_words(text, cut) && !touches_added_token(text, cut)) return cut;
  }
  return 0;
}

bool SafeCutFinder::separates_words(std::string_view text, size_t cut) const {
  if (text[cut] == ' ') return follows_visible_character(text, cut);
  return after_newlines_ && text[cut - 1] == '\n' && text[cut] != '/' &&
         follows_visible_character(text, cut - 1) &&
         begins_with_visible_character(text.substr(cut));
}

// Whether an added token spans the cut, begins or ends there (it may strip white space on the other
// side), or may do so once more text is known.
bool SafeCutFinder::touches_added_token(std::string_view text, size_t cut) const {
  for (size_t begin = cut - std::min(cut, longest_added_token_); begin <= cut; ++begin) {
    const std::string_view rest = text.substr(begin);
    for (const std::string& token : added_tokens_) {
      if (token.empty() || token[0] != rest[0] || begin + token.size() < cut) continue;
      const size_t known = std::min(token.size(), rest.size());
      if (rest.substr(0, known) == std::string_view(token).substr(0, known)) return true;
    }
  }
  return false;
}

}  // namespace megatron
