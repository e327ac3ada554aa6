#include "megatron/tokenizers/normalizers/normalizer.h"
#include "megatron/tokenizers/text/segments.h"

namespace megatron {
namespace {

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(TextPiece& piece) const override {
    TextPiece result;
    result.text.reserve(piece.text.size());
    for (const auto& [begin, end, is_match] : segments_by_pattern(pattern_, piece.text)) {
      const size_t before = result.text.size();
      if (is_match) {
        result.text += content_;
        // The content stands for the last character of the match.
        if (piece.from_start > 0 && end <= piece.from_start) result.from_start = result.text.size();
      } else {
        result.text.append(piece.text, begin, end - begin);
        if (begin < piece.from_start) {
          result.from_start = before + std::min(end, piece.from_start) - begin;
        }
      }
    }
    piece = std::move(result);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

}  // namespace

std::unique_ptr<Normalizer> make_replace_normalizer(const JsonNode& node) {
  Pattern pattern = read_pattern(node["pattern"]);
  return std::make_unique<Replace>(std::move(pattern), node.text("content"));
}

}  // namespace megatron
