#include "megatron/tokenizers/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"
#include "megatron/tokenizers/sentencepiece_check.h"

namespace megatron {
namespace {

using sentencepiece::SentencePieceProcessor;

void check_status(const sentencepiece::util::Status& status, const std::string& source,
                  const char* what) {
  check(status.ok(), "Expected {} of {} to work, but SentencePiece failed: {}", what, source,
        status.ToString());
}

class SentencePieceEncoder : public TokenEncoder {
 public:
  SentencePieceEncoder(const SentencePieceProcessor& processor, const std::string& path)
      : processor_(processor), path_(path) {}
  void encode(std::string_view text, std::vector<int64_t>& ids) override {
    std::vector<int> text_ids;
    check_status(processor_.Encode(text, &text_ids), path_, "encoding a text by the model");
    ids.insert(ids.end(), text_ids.begin(), text_ids.end());
  }

 private:
  const SentencePieceProcessor& processor_;
  const std::string& path_;
};

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view content, std::string path, std::string kind)
      : path_(std::move(path)), kind_(std::move(kind)) {
    check(is_safe_sentencepiece_model(content),
          "Expected {} to be a SentencePiece model, but it is not, or its character map is damaged",
          path_);
    const auto status = processor_.LoadFromSerializedProto(content);
    check(status.ok(), "Expected {} to be a SentencePiece model, but it is not: {}", path_,
          status.ToString());
    for (int id = 0; id < processor_.GetPieceSize(); ++id) bytes_.push_back(bytes_of_piece(id));
  }

  std::unique_ptr<TokenEncoder> make_encoder() const override {
    return std::make_unique<SentencePieceEncoder>(processor_, path_);
  }
  std::string_view token_bytes(int64_t id) const override {
    check(id >= 0 && id < vocab_size(), "Expected a token id below {} for {}, but got {}",
          vocab_size(), path_, id);
    return bytes_[static_cast<size_t>(id)];
  }
  std::string decode(std::span<const int64_t> ids) const override {
    std::vector<int> known;
    for (const int64_t id : ids) {
      token_bytes(id);  // checks the id
      known.push_back(static_cast<int>(id));
    }
    std::string text;
    check_status(processor_.Decode(known, &text), path_, "decoding ids by the model");
    return text;
  }
  size_t last_safe_cut(std::string_view, size_t) const override { return 0; }
  int64_t vocab_size() const override { return static_cast<int64_t>(bytes_.size()); }
  std::optional<int64_t> eod() const override {
    return processor_.eos_id() >= 0 ? std::optional<int64_t>(processor_.eos_id()) : std::nullopt;
  }
  std::optional<int64_t> bos() const {
    return processor_.bos_id() >= 0 ? std::optional<int64_t>(processor_.bos_id()) : std::nullopt;
  }
  std::string identifiers() const override {
    return nlohmann::ordered_json{{"class", kind_}, {"tokenizer_path", path_}}.dump();
  }

 private:
  std::string bytes_of_piece(int id) const {
    constexpr std::string_view kMark = "\xe2\x96\x81";
    std::string text = processor_.IdToPiece(id);
    if (processor_.IsByte(id)) {
      return std::string(1, static_cast<char>(std::stoi(text.substr(3, 2), nullptr, 16)));
    }
    if (processor_.IsControl(id)) return text;
    if (processor_.IsUnknown(id)) return " \xe2\x81\x87 ";  // what SentencePiece decodes it to
    for (size_t i = 0; (i = text.find(kMark, i)) < text.size(); ++i) {
      text.replace(i, kMark.size(), " ");
    }
    return text;
  }

  std::string path_;
  std::string kind_;
  SentencePieceProcessor processor_;
  std::vector<std::string> bytes_;  // by id
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, const std::string& kind) {
  return make_sentencepiece(read_text_file(path, "a SentencePiece model"), path, kind);
}

std::unique_ptr<Tokenizer> make_sentencepiece(std::string_view content, const std::string& source,
                                              const std::string& kind) {
  return std::make_unique<SentencePieceTokenizer>(content, source, kind);
}

std::optional<int64_t> sentencepiece_bos(const Tokenizer& tokenizer) {
  const auto* model = dynamic_cast<const SentencePieceTokenizer*>(&tokenizer);
  return model != nullptr ? model->bos() : std::nullopt;
}

}  // namespace megatron
