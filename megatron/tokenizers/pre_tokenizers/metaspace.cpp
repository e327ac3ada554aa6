#include "megatron/tokenizers/pre_tokenizers/pre_tokenizer.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

enum class PrependScheme { first, never, always };

class Metaspace : public PreTokenizer {
 public:
  Metaspace(uint32_t mark, PrependScheme prepend, bool split)
      : mark_(mark), prepend_(prepend), split_(split) {
    append_utf8(mark_, mark_text_);
  }

  void split(std::vector<TextPiece>& pieces) const override {
    std::vector<TextPiece> words;
    for (const TextPiece& piece : pieces) {
      TextPiece marked = with_marks(piece);
      if (!split_) {
        words.push_back(std::move(marked));
        continue;
      }
      const auto is_mark = [this](uint32_t code_point) { return code_point == mark_; };
      append_parts(marked, segments_by_character(is_mark, marked.text),
                   SplitBehavior::merged_with_next, words);
    }
    pieces = std::move(words);
  }

 private:
  TextPiece with_marks(const TextPiece& piece) const {
    TextPiece marked;
    for (size_t i = 0; i < piece.text.size(); ++i) {
      if (piece.text[i] == ' ') {
        marked.text += mark_text_;
      } else {
        marked.text += piece.text[i];
      }
      if (i < piece.from_start) marked.from_start = marked.text.size();
    }
    const bool prepends = prepend_ == PrependScheme::always ||
                          (prepend_ == PrependScheme::first && piece.from_start > 0);
    if (prepends && !marked.text.starts_with(mark_text_)) {
      marked.text.insert(0, mark_text_);
      if (marked.from_start > 0) marked.from_start += mark_text_.size();
    }
    return marked;
  }

  uint32_t mark_;
  std::string mark_text_;
  PrependScheme prepend_;
  bool split_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_metaspace(const JsonNode& node) {
  const JsonNode scheme_node = node["prepend_scheme"];
  const std::string scheme = node.text("prepend_scheme", "always");
  PrependScheme prepend = PrependScheme::always;
  if (scheme == "first") {
    prepend = PrependScheme::first;
  } else if (scheme == "never") {
    prepend = PrependScheme::never;
  } else if (scheme != "always") {
    scheme_node.refuse("first, never or always");
  }
  if (!node.boolean("add_prefix_space", true)) {
    // The older spelling of "never".
    if (!scheme_node.is_null() && prepend != PrependScheme::never) {
      scheme_node.refuse("never, as add_prefix_space is false");
    }
    prepend = PrependScheme::never;
  }
  return std::make_unique<Metaspace>(node.character("replacement"), prepend,
                                     node.boolean("split", true));
}

}  // namespace megatron
