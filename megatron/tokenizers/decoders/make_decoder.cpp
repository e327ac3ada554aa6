#include <utility>

#include "megatron/tokenizers/decoders/decoder.h"
#include "megatron/tokenizers/models/character_bpe.h"
#include "megatron/tokenizers/text/byte_alphabet.h"
#include "megatron/tokenizers/text/segments.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  if (what.empty()) return;
  for (size_t i = 0; (i = text.find(what, i)) < text.size(); i += by.size()) {
    text.replace(i, what.size(), by);
  }
}

// All tokens become one text.
class ByteLevelDecoder : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) bytes += bytes_of_spelling(token).value_or(token);
    tokens = {std::move(bytes)};
  }
};

// Runs of byte tokens become their text, or one U+FFFD per token if they are not UTF-8.
class ByteFallbackDecoder : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> result;
    std::string bytes;
    const auto end_run = [&] {
      if (bytes.empty()) return;
      if (valid_utf8_prefix(bytes) == bytes.size()) {
        result.push_back(bytes);
      } else {
        for (size_t i = 0; i < bytes.size(); ++i) result.push_back("\xef\xbf\xbd");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of_token(token)) {
        bytes += static_cast<char>(*byte);
        continue;
      }
      end_run();
      result.push_back(std::move(token));
    }
    end_run();
    tokens = std::move(result);
  }
  bool joins_byte_tokens() const override { return true; }
};

class FuseDecoder : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string text;
    for (const std::string& token : tokens) text += token;
    tokens = {std::move(text)};
  }
};

// Removes up to `start` and `stop` times one character from the ends of each token.
class StripDecoder : public Decoder {
 public:
  StripDecoder(uint32_t character, int64_t start, int64_t stop) : start_(start), stop_(stop) {
    append_utf8(character, character_);
  }
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (int64_t i = 0; i < start_ && rest.starts_with(character_); ++i) {
        rest.remove_prefix(character_.size());
      }
      for (int64_t i = 0; i < stop_ && rest.ends_with(character_); ++i) {
        rest.remove_suffix(character_.size());
      }
      token = std::string(rest);
    }
  }

 private:
  std::string character_;
  int64_t start_;
  int64_t stop_;
};

// The mark of spaces becomes a space; in the first token it goes if it was prepended.
class MetaspaceDecoder : public Decoder {
 public:
  MetaspaceDecoder(uint32_t mark, bool prepends) : prepends_(prepends) { append_utf8(mark, mark_); }
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      replace_all(tokens[i], mark_, i == 0 && prepends_ ? "" : " ");
    }
  }

 private:
  std::string mark_;
  bool prepends_;
};

class ReplaceDecoder : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      // A token may hold any bytes after ByteLevel; expressions see valid text only.
      const std::string text = with_replacements(token);
      token.clear();
      for (const auto& [begin, end, is_match] : segments_by_pattern(pattern_, text)) {
        token += is_match ? content_ : text.substr(begin, end - begin);
      }
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// Tokens without the prefix of continued words follow a space. `cleanup` undoes the spaces that
// splitting at English punctuation left.
class WordPieceDecoder : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void apply(std::vector<std::string>& tokens) const override {
    static constexpr std::pair<std::string_view, std::string_view> kCleanup[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) {
        const bool continues = tokens[i].starts_with(prefix_);
        tokens[i] = continues ? tokens[i].substr(prefix_.size()) : " " + tokens[i];
      }
      for (const auto& [what, by] : kCleanup) {
        if (cleanup_) replace_all(tokens[i], what, by);
      }
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

// The suffix that ends words becomes a space, but for the last token.
class EndOfWordDecoder : public Decoder {
 public:
  explicit EndOfWordDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
    }
  }

 private:
  std::string suffix_;
};

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> steps)
      : steps_(std::move(steps)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& step : steps_) step->apply(tokens);
  }
  bool joins_byte_tokens() const override {
    return std::ranges::any_of(steps_, [](const auto& step) { return step->joins_byte_tokens(); });
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

class SpacesBetween : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 1; i < tokens.size(); ++i) tokens[i].insert(0, " ");
  }
};

std::unique_ptr<Decoder> make_decoder_step(const JsonNode& node, int depth) {
  check_nesting(node, depth);
  const std::string type = node.type();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Decoder>> steps;
    for (const JsonNode& step : node["decoders"].elements()) {
      steps.push_back(make_decoder_step(step, depth + 1));
    }
    return std::make_unique<DecoderSequence>(std::move(steps));
  }
  if (type == "ByteLevel") return std::make_unique<ByteLevelDecoder>();
  if (type == "ByteFallback") return std::make_unique<ByteFallbackDecoder>();
  if (type == "Fuse") return std::make_unique<FuseDecoder>();
  if (type == "Strip") {
    return std::make_unique<StripDecoder>(node.character("content"),
                                          node.integer("start", 0, INT32_MAX),
                                          node.integer("stop", 0, INT32_MAX));
  }
  if (type == "Metaspace") {
    const bool never =
        node.text("prepend_scheme", "always") == "never" || !node.boolean("add_prefix_space", true);
    return std::make_unique<MetaspaceDecoder>(node.character("replacement"), !never);
  }
  if (type == "Replace") {
    return std::make_unique<ReplaceDecoder>(read_pattern(node["pattern"]), node.text("content"));
  }
  if (type == "WordPiece") {
    return std::make_unique<WordPieceDecoder>(node.text("prefix"), node.boolean("cleanup"));
  }
  if (type == "BPEDecoder") return std::make_unique<EndOfWordDecoder>(node.text("suffix"));
  node.refuse(
      "ByteLevel, ByteFallback, Fuse, Strip, Metaspace, Replace, WordPiece, BPEDecoder or a "
      "Sequence of these");
}

}  // namespace

std::unique_ptr<Decoder> make_decoder(const JsonNode& node) {
  if (node.is_null()) return std::make_unique<SpacesBetween>();
  return make_decoder_step(node, 0);
}

}  // namespace megatron
