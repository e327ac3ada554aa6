#include "megatron/tokenizers/bpe_tokenizer.h"

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/tokenizers/models/word_model.h"
#include "megatron/tokenizers/text/byte_alphabet.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr size_t kLongestCachedWord = 64;
constexpr size_t kCachedWords = size_t{1} << 17;

}  // namespace

class BpeEncoder : public TokenEncoder {
 public:
  explicit BpeEncoder(const BpeTokenizer& tokenizer)
      : tokenizer_(tokenizer), splitter_(tokenizer.steps_) {}

  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    const auto add = [&](int32_t id) { ids.push_back(id); };
    tokenizer_.added_.split(
        text,
        [&](size_t begin, size_t end) {
          const std::string_view piece = text.substr(begin, end - begin);
          if (tokenizer_.normalizer_ == nullptr) {
            encode_normalized(piece, ids);
          } else {
            encode_changed(piece, begin == 0, ids);
          }
        },
        add);
  }

  int64_t bytes_left_out() const override { return left_out_; }

 private:
  void encode_normalized(std::string_view text, std::vector<int64_t>& ids) {
    tokenizer_.added_normalized_.split(
        text, [&](size_t begin, size_t end) { encode_text(text.substr(begin, end - begin), ids); },
        [&](int32_t id) { ids.push_back(id); });
  }

  // Normalizes the valid parts of `text`.
  void encode_changed(std::string_view text, bool is_start, std::vector<int64_t>& ids) {
    while (!text.empty()) {
      const size_t valid = valid_utf8_prefix(text);
      TextPiece piece{.text = std::string(text.substr(0, valid))};
      if (is_start && valid > 0) piece.from_start = utf8_length(text[0]);
      tokenizer_.normalizer_->apply(piece);
      encode_normalized(piece.text, ids);
      text.remove_prefix(valid);
      const size_t invalid = invalid_utf8_prefix(text);
      encode_normalized(text.substr(0, invalid), ids);
      text.remove_prefix(invalid);
      is_start = false;
    }
  }

  // Each run of invalid UTF-8 is a word, so that expressions see only valid text and decoding
  // restores the bytes.
  void encode_text(std::string_view text, std::vector<int64_t>& ids) {
    while (!text.empty()) {
      const size_t valid = valid_utf8_prefix(text);
      splitter_.split(text.substr(0, valid),
                      [&](std::string_view word) { encode_word(word, ids); });
      text.remove_prefix(valid);
      const size_t invalid = invalid_utf8_prefix(text);
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
  StringMap<std::vector<int64_t>> cache_;
  int64_t left_out_ = 0;
};

BpeTokenizer::BpeTokenizer(BpeTokenizerParts parts)
    : kind_(std::move(parts.kind)),
      path_(std::move(parts.path)),
      normalizer_(std::move(parts.normalizer)),
      bpe_(parts.vocabulary, parts.merges, parts.bpe, path_),
      steps_(std::move(parts.steps)),
      eod_(parts.eod) {
  int64_t largest = -1;
  const auto note_id = [&](int64_t id, const std::string& spelling) {
    check(id >= 0 && id <= kLargestTokenId,
          "Expected token ids of {} from 0 to {}, but '{}' has {}", path_, kLargestTokenId,
          spelling, id);
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
  // Added tokens that are matched after a change of the text cannot be found in the text before.
  const bool cuts_known =
      normalizer_ == nullptr || (normalizer_->keeps_cuts() && parts.added_normalized.empty());
  if (cuts_known) safe_cuts_ = SafeCutFinder(steps_, {&parts.added, &parts.added_normalized});
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
