#include "megatron/tokenizers/pipeline_tokenizer.h"

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/tokenizers/models/character_bpe.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr size_t kLongestCachedPart = 64;
constexpr size_t kCachedParts = size_t{1} << 16;

}  // namespace

class PipelineEncoder : public TokenEncoder {
 public:
  explicit PipelineEncoder(const PipelineTokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    std::string repaired;
    if (valid_utf8_prefix(text) != text.size()) {
      repaired = with_replacements(text);
      text = repaired;
    }
    std::vector<TextPiece> pieces;
    tokenizer_.added_.split(
        text,
        [&](size_t begin, size_t end) {
          TextPiece piece{.text = std::string(text.substr(begin, end - begin))};
          if (begin == 0 && end > 0) piece.from_start = utf8_length(text[0]);
          if (tokenizer_.normalizer_ != nullptr) tokenizer_.normalizer_->apply(piece);
          encode_piece(piece, ids);
        },
        [&](int32_t id) { ids.push_back(id); });
  }

  int64_t bytes_left_out() const override { return left_out_; }

 private:
  void encode_piece(const TextPiece& piece, std::vector<int64_t>& ids) {
    tokenizer_.added_normalized_.split(
        piece.text,
        [&](size_t begin, size_t end) {
          if (begin == end) return;
          std::vector<TextPiece> words = {piece.part(begin, end)};
          if (tokenizer_.pre_tokenizer_ != nullptr) tokenizer_.pre_tokenizer_->split(words);
          for (const TextPiece& word : words) encode_word(word.text, ids);
        },
        [&](int32_t id) { ids.push_back(id); });
  }

  void encode_word(std::string_view word, std::vector<int64_t>& ids) {
    while (!word.empty()) {
      const size_t size = tokenizer_.model_->first_part(word);
      encode_part(word.substr(0, size), ids);
      word.remove_prefix(size);
    }
  }

  void encode_part(std::string_view part, std::vector<int64_t>& ids) {
    if (part.size() > kLongestCachedPart) {
      left_out_ += tokenizer_.model_->encode_word(part, ids);
      return;
    }
    if (const auto found = cache_.find(part); found != cache_.end()) {
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      return;
    }
    std::vector<int64_t> part_ids;
    const int64_t left_out = tokenizer_.model_->encode_word(part, part_ids);
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
    left_out_ += left_out;
    if (left_out > 0) return;  // not cached, so that each occurrence is counted
    if (cache_.size() >= kCachedParts) cache_.clear();
    cache_.emplace(part, std::move(part_ids));
  }

  const PipelineTokenizer& tokenizer_;
  StringMap<std::vector<int64_t>> cache_;
  int64_t left_out_ = 0;
};

PipelineTokenizer::PipelineTokenizer(PipelineTokenizerParts parts)
    : kind_(std::move(parts.kind)),
      path_(std::move(parts.path)),
      normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      model_(std::move(parts.model)),
      decoder_(std::move(parts.decoder)),
      eod_(parts.eod) {
  const auto set_spelling = [&](int32_t id, std::string spelling) {
    check(id >= 0 && id <= kLargestTokenId,
          "Expected token ids of {} from 0 to {}, but '{}' has {}", path_, kLargestTokenId,
          spelling, id);
    const auto place = static_cast<size_t>(id);
    if (place >= spellings_.size()) spellings_.resize(place + 1);
    spellings_[place] = std::move(spelling);
  };
  for (const auto& [spelling, id] : parts.vocabulary) set_spelling(id, spelling);
  for (const AddedToken& token : parts.added) set_spelling(token.id, token.content);
  for (AddedToken& token : parts.added_normalized) {
    TextPiece content{.text = token.content};
    if (normalizer_ != nullptr) normalizer_->apply(content);
    token.content = content.text;
    set_spelling(token.id, token.content);
  }
  check(!spellings_.empty(), "Expected a vocabulary in {}, but got an empty one", path_);
  set_token_bytes();
  added_ = AddedTokenFinder(std::move(parts.added));
  added_normalized_ = AddedTokenFinder(std::move(parts.added_normalized));
}

// What a token adds after another one whose text is a letter.
void PipelineTokenizer::set_token_bytes() {
  const std::string kBefore = "a";
  const auto text_of = [&](std::vector<std::string> tokens) {
    decoder_->apply(tokens);
    std::string text;
    for (const std::string& token : tokens) text += token;
    return text;
  };
  const std::string before = text_of({kBefore});
  bytes_.resize(spellings_.size());
  for (size_t id = 0; id < spellings_.size(); ++id) {
    const std::string& spelling = spellings_[id];
    if (spelling.empty()) continue;
    const auto byte = decoder_->joins_byte_tokens() ? byte_of_token(spelling) : std::nullopt;
    if (byte) {
      bytes_[id] = static_cast<char>(*byte);
      continue;
    }
    const std::string text = text_of({kBefore, spelling});
    bytes_[id] = text.starts_with(before) ? text.substr(before.size()) : text;
  }
}

std::unique_ptr<TokenEncoder> PipelineTokenizer::make_encoder() const {
  return std::make_unique<PipelineEncoder>(*this);
}

std::string_view PipelineTokenizer::token_bytes(int64_t id) const {
  check(id >= 0 && id < vocab_size(), "Expected a token id below {} for {}, but got {}",
        vocab_size(), path_, id);
  return bytes_[static_cast<size_t>(id)];
}

std::string PipelineTokenizer::decode(std::span<const int64_t> ids) const {
  std::vector<std::string> tokens;
  for (const int64_t id : ids) {
    token_bytes(id);  // checks the id
    const std::string& spelling = spellings_[static_cast<size_t>(id)];
    if (!spelling.empty()) tokens.push_back(spelling);
  }
  decoder_->apply(tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

std::string PipelineTokenizer::identifiers() const {
  return nlohmann::ordered_json{{"class", kind_}, {"tokenizer_path", path_}}.dump();
}

}  // namespace megatron
