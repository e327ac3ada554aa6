#include <functional>

#include "megatron/tokenizers/normalizers/normalizer.h"
#include "megatron/tokenizers/text/byte_alphabet.h"
#include "megatron/tokenizers/text/unicode.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalizationForm form) : form_(form) {}
  void apply(TextPiece& piece) const override {
    const std::string start = normalize(piece.text.substr(0, piece.from_start), form_);
    piece.text = normalize(piece.text, form_);
    if (piece.text.empty() || start.empty()) {
      piece.from_start = 0;
      return;
    }
    // A first character that composes with the next one still begins the document.
    piece.from_start =
        std::min(std::max(start.size(), utf8_length(piece.text[0])), piece.text.size());
  }
  bool keeps_cuts() const override {
    return form_ == NormalizationForm::nfc || form_ == NormalizationForm::nfd;
  }

 private:
  NormalizationForm form_;
};

// Replaces each character by a text that depends on it alone.
class CharacterMap : public Normalizer {
 public:
  using Append = std::function<void(uint32_t code_point, std::string& text)>;
  explicit CharacterMap(Append append) : append_(std::move(append)) {}

  void apply(TextPiece& piece) const override {
    TextPiece result;
    result.text.reserve(piece.text.size());
    visit_characters(piece.text, [&](uint32_t code_point, size_t begin, size_t) {
      append_(code_point, result.text);
      if (begin < piece.from_start) result.from_start = result.text.size();
    });
    piece = std::move(result);
  }

 private:
  Append append_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(TextPiece& piece) const override {
    const std::string_view text = piece.text;
    size_t begin = 0;
    size_t end = text.size();
    while (left_ && begin < end && is_white_space(decode_utf8(text.substr(begin)))) {
      begin += utf8_length(text[begin]);
    }
    while (right_ && end > begin) {
      const size_t last = last_character(text.substr(0, end));
      if (!is_white_space(decode_utf8(text.substr(last)))) break;
      end = last;
    }
    piece = piece.part(begin, end);
  }

 private:
  bool left_;
  bool right_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(TextPiece& piece) const override {
    if (piece.text.empty()) return;
    piece.text.insert(0, prefix_);
    if (piece.from_start > 0) piece.from_start += prefix_.size();
  }

 private:
  std::string prefix_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void apply(TextPiece& piece) const override {
    for (const auto& step : steps_) step->apply(piece);
  }
  bool keeps_cuts() const override {
    return std::ranges::all_of(steps_, [](const auto& step) { return step->keeps_cuts(); });
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

// SentencePiece's preparation of text for machine translation: control characters go, other kinds
// of space become one.
void append_nmt(uint32_t code_point, std::string& text) {
  const auto within = [code_point](uint32_t first, uint32_t last) {
    return code_point >= first && code_point <= last;
  };
  if (within(0x01, 0x08) || code_point == 0x0B || within(0x0E, 0x1F) || code_point == 0x7F ||
      code_point == 0x8F || code_point == 0x9F) {
    return;
  }
  const bool space = code_point == 0x09 || code_point == 0x0A || code_point == 0x0C ||
                     code_point == 0x0D || code_point == 0x1680 || within(0x200B, 0x200F) ||
                     code_point == 0x2028 || code_point == 0x2029 || code_point == 0x2581 ||
                     code_point == 0xFEFF || code_point == 0xFFFD;
  append_utf8(space ? ' ' : code_point, text);
}

void append_clean(uint32_t code_point, std::string& text) {
  const bool space = is_white_space(code_point);
  const bool kept_control = code_point == '\t' || code_point == '\n' || code_point == '\r';
  if (code_point == 0 || code_point == 0xFFFD) return;
  if (!kept_control && is_control_or_format(code_point)) return;
  append_utf8(space ? ' ' : code_point, text);
}

void append_apart_if_chinese(uint32_t code_point, std::string& text) {
  static constexpr std::pair<uint32_t, uint32_t> kIdeographs[] = {
      {0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
      {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  const bool chinese = std::ranges::any_of(kIdeographs, [&](const auto& range) {
    return code_point >= range.first && code_point <= range.second;
  });
  if (chinese) text += ' ';
  append_utf8(code_point, text);
  if (chinese) text += ' ';
}

std::unique_ptr<Normalizer> map_of(CharacterMap::Append append) {
  return std::make_unique<CharacterMap>(std::move(append));
}

std::unique_ptr<Normalizer> form_of(NormalizationForm form) {
  return std::make_unique<UnicodeForm>(form);
}

std::unique_ptr<Normalizer> make_bert_normalizer(const JsonNode& node) {
  std::vector<std::unique_ptr<Normalizer>> steps;
  if (node.boolean("clean_text")) steps.push_back(map_of(append_clean));
  if (node.boolean("handle_chinese_chars")) steps.push_back(map_of(append_apart_if_chinese));
  const bool lowercase = node.boolean("lowercase");
  if (node.boolean("strip_accents", lowercase)) {
    steps.push_back(form_of(NormalizationForm::nfd));
    steps.push_back(map_of([](uint32_t code_point, std::string& text) {
      if (!is_nonspacing_mark(code_point)) append_utf8(code_point, text);
    }));
  }
  if (lowercase) steps.push_back(map_of(append_lowercase));
  return std::make_unique<NormalizerSequence>(std::move(steps));
}

std::unique_ptr<Normalizer> make_component(const JsonNode& node, int depth) {
  check_nesting(node, depth);
  const std::string type = node.type();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> steps;
    for (const JsonNode& step : node["normalizers"].elements()) {
      steps.push_back(make_component(step, depth + 1));
    }
    return std::make_unique<NormalizerSequence>(std::move(steps));
  }
  if (type == "NFC") return form_of(NormalizationForm::nfc);
  if (type == "NFD") return form_of(NormalizationForm::nfd);
  if (type == "NFKC") return form_of(NormalizationForm::nfkc);
  if (type == "NFKD") return form_of(NormalizationForm::nfkd);
  if (type == "Lowercase") return map_of(append_lowercase);
  if (type == "Nmt") return map_of(append_nmt);
  if (type == "StripAccents") {
    return map_of([](uint32_t code_point, std::string& text) {
      if (!is_combining_mark(code_point)) append_utf8(code_point, text);
    });
  }
  if (type == "ByteLevel") {
    return map_of([](uint32_t code_point, std::string& text) {
      std::string bytes;
      append_utf8(code_point, bytes);
      for (const char c : bytes) text += byte_alphabet()[static_cast<unsigned char>(c)];
    });
  }
  if (type == "Strip") {
    const bool left = node.boolean("strip_left");
    return std::make_unique<Strip>(left, node.boolean("strip_right"));
  }
  if (type == "Prepend") return std::make_unique<Prepend>(node.text("prepend"));
  if (type == "Replace") return make_replace_normalizer(node);
  if (type == "Precompiled") return make_precompiled_normalizer(node);
  if (type == "BertNormalizer") return make_bert_normalizer(node);
  node.refuse(
      "NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip, StripAccents, Nmt, ByteLevel, "
      "BertNormalizer, Precompiled or a Sequence of these");
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node) {
  if (node.is_null()) return nullptr;
  return make_component(node, 0);
}

}  // namespace megatron
