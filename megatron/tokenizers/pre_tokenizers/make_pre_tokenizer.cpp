#include "megatron/tokenizers/pre_tokenizers/pre_tokenizer.h"
#include "megatron/tokenizers/text/byte_alphabet.h"
#include "megatron/tokenizers/text/character_classes.h"
#include "megatron/tokenizers/text/unicode.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

class PatternSplit : public PreTokenizer {
 public:
  PatternSplit(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(std::vector<TextPiece>& pieces) const override {
    std::vector<TextPiece> words;
    for (const TextPiece& piece : pieces) {
      auto segments = segments_by_pattern(pattern_, piece.text);
      for (Segment& segment : segments) segment.is_match ^= invert_;
      append_parts(piece, std::move(segments), behavior_, words);
    }
    pieces = std::move(words);
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class CharacterSplit : public PreTokenizer {
 public:
  using Matches = std::function<bool(uint32_t)>;
  CharacterSplit(Matches matches, SplitBehavior behavior)
      : matches_(std::move(matches)), behavior_(behavior) {}

  void split(std::vector<TextPiece>& pieces) const override {
    std::vector<TextPiece> words;
    for (const TextPiece& piece : pieces) {
      append_parts(piece, segments_by_character(matches_, piece.text), behavior_, words);
    }
    pieces = std::move(words);
  }

 private:
  Matches matches_;
  SplitBehavior behavior_;
};

// Runs of word characters and runs of other characters; white space goes.
class WordRuns : public PreTokenizer {
 public:
  void split(std::vector<TextPiece>& pieces) const override {
    enum class Kind { space, word, other };
    std::vector<TextPiece> words;
    for (const TextPiece& piece : pieces) {
      size_t run = 0;
      Kind kind = Kind::space;
      const auto end_run = [&](size_t end) {
        if (kind != Kind::space) words.push_back(piece.part(run, end));
        run = end;
      };
      visit_characters(piece.text, [&](uint32_t code_point, size_t begin, size_t) {
        const Kind here = is_word_character(code_point) ? Kind::word
                          : is_white_space(code_point)  ? Kind::space
                                                        : Kind::other;
        if (here != kind) end_run(begin);
        kind = here;
      });
      end_run(piece.text.size());
    }
    pieces = std::move(words);
  }
};

// Words of a number of characters each.
class FixedLength : public PreTokenizer {
 public:
  explicit FixedLength(int64_t length) : length_(length) {}
  void split(std::vector<TextPiece>& pieces) const override {
    std::vector<TextPiece> words;
    for (const TextPiece& piece : pieces) {
      size_t done = 0;
      int64_t count = 0;
      visit_characters(piece.text, [&](uint32_t, size_t, size_t end) {
        if (++count < length_ && end < piece.text.size()) return;
        words.push_back(piece.part(done, end));
        done = end;
        count = 0;
      });
    }
    pieces = std::move(words);
  }

 private:
  int64_t length_;
};

// Splits into GPT-2's words and spells bytes in the byte alphabet.
class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool prefix_space, bool use_regex)
      : prefix_space_(prefix_space), use_regex_(use_regex), words_(kGpt2Words) {}

  void split(std::vector<TextPiece>& pieces) const override {
    std::vector<TextPiece> parts;
    for (TextPiece& piece : pieces) {
      if (prefix_space_ && piece.text[0] != ' ') {
        piece.text.insert(0, " ");
        if (piece.from_start > 0) ++piece.from_start;
      }
      if (use_regex_) {
        append_parts(piece, segments_by_pattern(words_, piece.text), SplitBehavior::isolated,
                     parts);
      } else {
        parts.push_back(std::move(piece));
      }
    }
    for (TextPiece& part : parts) {
      TextPiece spelled;
      for (size_t i = 0; i < part.text.size(); ++i) {
        spelled.text += byte_alphabet()[static_cast<unsigned char>(part.text[i])];
        if (i < part.from_start) spelled.from_start = spelled.text.size();
      }
      part = std::move(spelled);
    }
    pieces = std::move(parts);
  }

 private:
  bool prefix_space_;
  bool use_regex_;
  Pattern words_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void split(std::vector<TextPiece>& pieces) const override {
    for (const auto& step : steps_) step->split(pieces);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

std::unique_ptr<PreTokenizer> split_at(CharacterSplit::Matches matches, SplitBehavior behavior) {
  return std::make_unique<CharacterSplit>(std::move(matches), behavior);
}

std::unique_ptr<PreTokenizer> make_step(const JsonNode& node, int depth) {
  check_nesting(node, depth);
  const std::string type = node.type();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<PreTokenizer>> steps;
    for (const JsonNode& step : node["pretokenizers"].elements()) {
      steps.push_back(make_step(step, depth + 1));
    }
    return std::make_unique<PreTokenizerSequence>(std::move(steps));
  }
  if (type == "Split") {
    return std::make_unique<PatternSplit>(read_pattern(node["pattern"]),
                                          read_split_behavior(node["behavior"]),
                                          node.boolean("invert", false));
  }
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevel>(node.boolean("add_prefix_space", true),
                                       node.boolean("use_regex", true));
  }
  if (type == "Metaspace") return make_metaspace(node);
  if (type == "Digits") {
    const bool individual = node.boolean("individual_digits", false);
    return split_at(is_numeric, individual ? SplitBehavior::isolated : SplitBehavior::contiguous);
  }
  if (type == "Punctuation") {
    const JsonNode behavior = node["behavior"];
    return split_at(is_punctuation,
                    behavior.is_null() ? SplitBehavior::isolated : read_split_behavior(behavior));
  }
  if (type == "Whitespace") return std::make_unique<WordRuns>();
  if (type == "WhitespaceSplit") return split_at(is_white_space, SplitBehavior::removed);
  if (type == "BertPreTokenizer") {
    std::vector<std::unique_ptr<PreTokenizer>> steps;
    steps.push_back(split_at(is_white_space, SplitBehavior::removed));
    steps.push_back(split_at(is_punctuation, SplitBehavior::isolated));
    return std::make_unique<PreTokenizerSequence>(std::move(steps));
  }
  if (type == "CharDelimiterSplit" || type == "Delimiter") {
    const uint32_t delimiter = node.character("delimiter");
    return split_at([delimiter](uint32_t code_point) { return code_point == delimiter; },
                    SplitBehavior::removed);
  }
  if (type == "FixedLength") {
    return std::make_unique<FixedLength>(node.integer("length", 1, INT32_MAX, 5));
  }
  node.refuse(
      "Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, "
      "BertPreTokenizer, CharDelimiterSplit, FixedLength or a Sequence of these");
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& node) {
  if (node.is_null()) return nullptr;
  return make_step(node, 0);
}

}  // namespace megatron
