#include "megatron/tokenizers/bpe_tokenizer.h"

#include <functional>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/tokenizers/byte_alphabet.h"
#include "megatron/tokenizers/utf8.h"

namespace megatron {
namespace {

constexpr int32_t kLargestId = (1 << 24) - 1;  // bounds the memory that a damaged file can request
constexpr size_t kLongestCachedWord = 64;
constexpr size_t kCachedWords = size_t{1} << 17;

}  // namespace

class BpeEncoder : public TokenEncoder {
 public:
  explicit BpeEncoder(const BpeTokenizer& tokenizer)
      : tokenizer_(tokenizer), splitter_(tokenizer.steps_) {}

  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    encode_between(tokenizer_.added_, text, ids, [&](std::string_view piece) {
      encode_between(tokenizer_.added_normalized_, piece, ids,
                     [&](std::string_view rest) { encode_text(rest, ids); });
    });
  }

  int64_t bytes_left_out() const override { return left_out_; }

 private:
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  // Appends the ids of added tokens and calls `encode_piece` for the text between them.
  template <typename EncodePiece>
  static void encode_between(const AddedTokenFinder& finder, std::string_view text,
                             std::vector<int64_t>& ids, const EncodePiece& encode_piece) {
    size_t done = 0;
    while (const auto found = finder.find(text, done)) {
      encode_piece(text.substr(done, found->begin - done));
      ids.push_back(found->id);
      done = found->end;
    }
    encode_piece(text.substr(done));
  }

  // Each run of invalid UTF-8 is a word, so that expressions see only valid text and decoding
  // restores the bytes.
  void encode_text(std::string_view text, std::vector<int64_t>& ids) {
    while (!text.empty()) {
      const size_t valid = valid_utf8_prefix(text);
      splitter_.split(text.substr(0, valid),
                      [&](std::string_view word) { encode_word(word, ids); });
      text.remove_prefix(valid);
      size_t invalid = 0;
      while (invalid < text.size() && valid_utf8_prefix(text.substr(invalid, 4)) == 0) {
        ++invalid;
      }
      if (invalid > 0) left_out_ += tokenizer_.bpe_.encode_word(text.substr(0, invalid), ids);
      text.remove_prefix(invalid);
    }
  }

  void encode_word(std::string_view word, std::vector<int64_t>& ids) {
    if (word.size() > kLongestCachedWord) {
      left_out_ += tokenizer_.bpe_.encode_word(word, ids);
      return;
    }
    const auto found = cache_.find(word);
    if (found != cache_.end()) {
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      return;
    }
    std::vector<int64_t> word_ids;
    const int64_t left_out = tokenizer_.bpe_.encode_word(word, word_ids);
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
    left_out_ += left_out;
    if (left_out > 0) return;  // not cached, so that each occurrence is counted
    if (cache_.size() >= kCachedWords) cache_.clear();
    cache_.emplace(word, std::move(word_ids));
  }

  const BpeTokenizer& tokenizer_;
  WordSplitter splitter_;
  std::unordered_map<std::string, std::vector<int64_t>, TextHash, std::equal_to<>> cache_;
  int64_t left_out_ = 0;
};

BpeTokenizer::BpeTokenizer(BpeTokenizerParts parts)
    : kind_(std::move(parts.kind)),
      path_(std::move(parts.path)),
      bpe_(parts.vocabulary, parts.merges, parts.bpe, path_),
      steps_(std::move(parts.steps)),
      eod_(parts.eod) {
  int64_t largest = -1;
  const auto note_id = [&](int64_t id, const std::string& spelling) {
    check(id >= 0 && id <= kLargestId, "Expected token ids of {} from 0 to {}, but '{}' has {}",
          path_, kLargestId, spelling, id);
    largest = std::max(largest, id);
  };
  for (const auto& [spelling, id] : parts.vocabulary) note_id(id, spelling);
  for (const auto* added : {&parts.added, &parts.added_normalized}) {
    for (const auto& token : *added) note_id(token.id, token.content);
  }
  check(largest >= 0, "Expected a vocabulary in {}, but got an empty one", path_);
  bytes_.resize(static_cast<size_t>(largest + 1));
  for (const auto& [spelling, id] : parts.vocabulary) {
    bytes_[static_cast<size_t>(id)] = bytes_of_spelling(spelling).value_or(spelling);
  }
  for (const auto* added : {&parts.added, &parts.added_normalized}) {
    for (const auto& token : *added) bytes_[static_cast<size_t>(token.id)] = token.content;
  }
  safe_cuts_ = SafeCutFinder(steps_, {&parts.added, &parts.added_normalized});
  added_ = AddedTokenFinder(std::move(parts.added));
  added_normalized_ = AddedTokenFinder(std::move(parts.added_normalized));
}

std::unique_ptr<TokenEncoder> BpeTokenizer::make_encoder() const {
  return std::make_unique<BpeEncoder>(*this);
}

std::string_view BpeTokenizer::token_bytes(int64_t id) const {
  check(id >= 0 && id < vocab_size(), "Expected a token id below {} for {}, but got {}",
        vocab_size(), path_, id);
  return bytes_[static_cast<size_t>(id)];
}

std::string BpeTokenizer::identifiers() const {
  return nlohmann::ordered_json{{"class", kind_}, {"tokenizer_path", path_}}.dump();
}

}  // namespace megatron
