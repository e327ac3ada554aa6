#include "megatron/tokenizers/added_tokens.h"

#include "megatron/tokenizers/text/character_classes.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

// The character that ends at `end`, if it is valid.
std::optional<uint32_t> character_before(std::string_view text, size_t end) {
  if (end == 0) return std::nullopt;
  const size_t begin = last_character(text.substr(0, end));
  const std::string_view character = text.substr(begin, end - begin);
  if (valid_utf8_prefix(character) != character.size()) return std::nullopt;
  if (utf8_length(character[0]) != character.size()) return std::nullopt;
  return decode_utf8(character);
}

std::optional<uint32_t> character_at(std::string_view text, size_t begin) {
  if (begin >= text.size()) return std::nullopt;
  const std::string_view character = text.substr(begin, utf8_length(text[begin]));
  if (valid_utf8_prefix(character) != utf8_length(text[begin])) return std::nullopt;
  return decode_utf8(character);
}

size_t begin_with_space_before(std::string_view text, size_t begin) {
  while (const auto character = character_before(text, begin)) {
    if (!is_white_space(*character)) break;
    begin = last_character(text.substr(0, begin));
  }
  return begin;
}

size_t end_with_space_after(std::string_view text, size_t end) {
  while (const auto character = character_at(text, end)) {
    if (!is_white_space(*character)) break;
    end += utf8_length(text[end]);
  }
  return end;
}

bool is_word(const std::optional<uint32_t>& character) {
  return character && is_word_character(*character);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::vector<std::pair<std::string, int32_t>> entries;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    entries.emplace_back(tokens_[i].content, static_cast<int32_t>(i));
  }
  trie_ = PrefixTrie(std::move(entries));
  first_bytes_ = trie_.first_bytes();
}

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text,
                                                              size_t from) const {
  if (first_bytes_.empty()) return std::nullopt;
  for (size_t i = from; (i = text.find_first_of(first_bytes_, i)) < text.size(); ++i) {
    const auto match = trie_.longest(text.substr(i));
    if (match.length == 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(match.value)];
    const size_t end = i + match.length;
    const bool touches_word =
        is_word(character_before(text, i)) || is_word(character_at(text, end));
    return Found{.begin = token.left_strip ? begin_with_space_before(text, i) : i,
                 .end = token.right_strip ? end_with_space_after(text, end) : end,
                 .search_end = end,
                 .id = token.id,
                 .accepted = !token.single_word || !touches_word};
  }
  return std::nullopt;
}

}  // namespace megatron
