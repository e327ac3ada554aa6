#include "megatron/tokenizers/models/character_bpe.h"

#include "megatron/base/error.h"
#include "megatron/tokenizers/models/byte_pair_encoding.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, SentencePiece's space

}  // namespace

std::string byte_token(unsigned char byte) {
  return fmt::format("<0x{:02X}>", byte);
}

std::optional<unsigned char> byte_of_token(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || !spelling.ends_with('>')) {
    return std::nullopt;
  }
  int byte = 0;
  for (const char c : spelling.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    byte = byte * 16 + digit;
  }
  return static_cast<unsigned char>(byte);
}

CharacterBpe::CharacterBpe(const Vocabulary& vocabulary,
                           const std::vector<std::pair<std::string, std::string>>& merges,
                           CharacterBpeOptions options, const std::string& source)
    : vocabulary_(vocabulary), options_(std::move(options)) {
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (const auto& [left, right] : merges) {
    add_merge(merges_, vocabulary_, left, right, options_.continuing_prefix.size(), rank++, source);
  }
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const auto found = vocabulary_.find(byte_token(static_cast<unsigned char>(byte)));
    byte_ids_[byte] = found == vocabulary_.end() ? -1 : found->second;
  }
  has_parts_ = !options_.ignore_merges && options_.continuing_prefix.empty() &&
               options_.end_of_word_suffix.empty() && vocabulary_.contains(kSpaceMark);
  for (const auto& [spelling, id] : vocabulary_) {
    for (size_t i = 1; (i = spelling.find(kSpaceMark, i)) < spelling.size(); ++i) {
      before_space_.insert(decode_utf8(std::string_view(spelling).substr(
          last_character(std::string_view(spelling).substr(0, i)))));
    }
  }
}

// No token holds a character that is not in before_space_ and then the space mark. Merges therefore
// never join symbols across such a place, and the parts on either side can be encoded alone.
size_t CharacterBpe::first_part(std::string_view word) const {
  if (!has_parts_) return word.size();
  for (size_t i = 1; (i = word.find(kSpaceMark, i)) < word.size(); ++i) {
    const std::string_view before = word.substr(last_character(word.substr(0, i)));
    if (!before_space_.contains(decode_utf8(before))) return i;
  }
  return word.size();
}

int64_t CharacterBpe::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  if (options_.ignore_merges) {
    if (const auto found = vocabulary_.find(word); found != vocabulary_.end()) {
      ids.push_back(found->second);
      return 0;
    }
  }
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  const int64_t left_out = append_symbols(word, symbols);
  merges_.apply(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  return left_out;
}

int64_t CharacterBpe::append_symbols(std::string_view word, std::vector<int32_t>& symbols) const {
  int64_t left_out = 0;
  // Hugging Face holds an unknown token back until the next token of the vocabulary; byte tokens
  // overtake it.
  bool unknown_pending = false;
  std::string decorated;
  visit_characters(word, [&](uint32_t, size_t begin, size_t end) {
    std::string_view symbol = word.substr(begin, end - begin);
    const bool continues = begin > 0 && !options_.continuing_prefix.empty();
    const bool ends = end == word.size() && !options_.end_of_word_suffix.empty();
    if (continues || ends) {
      decorated = continues ? options_.continuing_prefix : "";
      decorated += symbol;
      if (ends) decorated += options_.end_of_word_suffix;
      symbol = decorated;
    }
    if (const auto found = vocabulary_.find(symbol); found != vocabulary_.end()) {
      if (unknown_pending) symbols.push_back(*options_.unknown);
      unknown_pending = false;
      symbols.push_back(found->second);
      return;
    }
    if (options_.byte_fallback && append_bytes(symbol, symbols)) return;
    if (!options_.unknown) {
      left_out += static_cast<int64_t>(end - begin);
      return;
    }
    if (unknown_pending && !options_.fuse_unknown) symbols.push_back(*options_.unknown);
    unknown_pending = true;
  });
  if (unknown_pending) symbols.push_back(*options_.unknown);
  return left_out;
}

bool CharacterBpe::append_bytes(std::string_view character, std::vector<int32_t>& symbols) const {
  for (const char c : character) {
    if (byte_ids_[static_cast<unsigned char>(c)] < 0) return false;
  }
  for (const char c : character) symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  return true;
}

}  // namespace megatron
