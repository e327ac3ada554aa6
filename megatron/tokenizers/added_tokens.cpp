#include "megatron/tokenizers/added_tokens.h"

#include <algorithm>

#include "megatron/tokenizers/utf8.h"

namespace megatron {
namespace {

size_t begin_with_space_before(std::string_view text, size_t from, size_t begin) {
  while (begin > from) {
    size_t start = begin - 1;
    while (start > from && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    const std::string_view character = text.substr(start, begin - start);
    if (valid_utf8_prefix(character) != character.size()) break;
    if (!is_white_space(decode_utf8(character))) break;
    begin = start;
  }
  return begin;
}

size_t end_with_space_after(std::string_view text, size_t end) {
  while (end < text.size()) {
    const size_t length = utf8_length(text[end]);
    const std::string_view character = text.substr(end, length);
    if (valid_utf8_prefix(character) != length) break;
    if (!is_white_space(decode_utf8(character))) break;
    end += length;
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) {
  for (auto& token : tokens) {
    if (token.content.empty()) continue;
    const char first = token.content[0];
    auto& bucket = by_first_byte_[static_cast<unsigned char>(first)];
    if (bucket.empty()) first_bytes_ += first;
    bucket.push_back(std::move(token));
  }
  for (auto& bucket : by_first_byte_) {
    std::stable_sort(bucket.begin(), bucket.end(), [](const AddedToken& a, const AddedToken& b) {
      return a.content.size() > b.content.size();
    });
  }
}

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text,
                                                              size_t from) const {
  if (first_bytes_.empty()) return std::nullopt;
  for (size_t i = from; (i = text.find_first_of(first_bytes_, i)) < text.size(); ++i) {
    const std::string_view rest = text.substr(i);
    for (const auto& token : by_first_byte_[static_cast<unsigned char>(text[i])]) {
      if (!rest.starts_with(token.content)) continue;
      const size_t end = i + token.content.size();
      return Found{token.left_strip ? begin_with_space_before(text, from, i) : i,
                   token.right_strip ? end_with_space_after(text, end) : end, token.id};
    }
  }
  return std::nullopt;
}

}  // namespace megatron
