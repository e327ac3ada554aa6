#include "megatron/tokenizers/byte_tokenizer.h"

#include <charconv>

#include "megatron/base/error.h"

namespace megatron {
namespace {

class ByteEncoder : public TokenEncoder {
 public:
  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }
};

constexpr std::string_view kNullSeparators = " \t\r\n\f\v";

class NullEncoder : public TokenEncoder {
 public:
  explicit NullEncoder(int64_t vocab_size) : vocab_size_(vocab_size) {}

  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    for (size_t begin = 0;
         (begin = text.find_first_not_of(kNullSeparators, begin)) < text.size();) {
      const size_t end = std::min(text.find_first_of(kNullSeparators, begin), text.size());
      const std::string_view word = text.substr(begin, end - begin);
      int64_t id = -1;
      const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
      check(
          error == std::errc() && rest == word.data() + word.size() && id >= 0 && id < vocab_size_,
          "Expected ids below {} separated by white space, but got '{}'", vocab_size_,
          word.substr(0, 40));
      ids.push_back(id);
      begin = end;
    }
  }

 private:
  int64_t vocab_size_;
};

}  // namespace

ByteTokenizer::ByteTokenizer() {
  for (int byte = 0; byte < 256; ++byte) bytes_ += static_cast<char>(byte);
}

std::unique_ptr<TokenEncoder> ByteTokenizer::make_encoder() const {
  return std::make_unique<ByteEncoder>();
}

std::string_view ByteTokenizer::token_bytes(int64_t id) const {
  check(id >= 0 && id <= 256, "Expected a token id below 257, but got {}", id);
  if (id == 256) return "<|endoftext|>";
  return std::string_view(bytes_).substr(static_cast<size_t>(id), 1);
}

size_t ByteTokenizer::last_safe_cut(std::string_view text, size_t limit) const {
  return std::min(text.size(), limit);
}

std::string ByteTokenizer::identifiers() const {
  return R"({"class": "ByteTokenizer", "tokenizer_path": null})";
}

NullTokenizer::NullTokenizer(int64_t ids) {
  check(ids > 0, "Expected at least 1 id for NullTokenizer, but got {}; give --vocab-size", ids);
  for (int64_t id = 0; id <= ids; ++id) names_.push_back(fmt::format("{} ", id));
}

std::unique_ptr<TokenEncoder> NullTokenizer::make_encoder() const {
  return std::make_unique<NullEncoder>(vocab_size());
}

std::string_view NullTokenizer::token_bytes(int64_t id) const {
  check(id >= 0 && id < vocab_size(), "Expected a token id below {}, but got {}", vocab_size(), id);
  return names_[static_cast<size_t>(id)];
}

size_t NullTokenizer::last_safe_cut(std::string_view text, size_t limit) const {
  return text.substr(0, limit).find_last_of(kNullSeparators) + 1;  // npos + 1 == 0
}

std::string NullTokenizer::identifiers() const {
  return fmt::format(R"({{"class": "NullTokenizer", "tokenizer_path": null, "vocab_size": {}}})",
                     names_.size() - 1);
}

}  // namespace megatron
