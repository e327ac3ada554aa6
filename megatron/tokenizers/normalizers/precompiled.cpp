// SentencePiece's precompiled character map as Hugging Face applies it. That differs from
// SentencePiece: a grapheme of up to 5 bytes that begins with an entry is replaced as a whole by the
// shortest entry's replacement.
#include "megatron/tokenizers/normalizers/normalizer.h"
#include "megatron/tokenizers/text/base64.h"
#include "megatron/tokenizers/text/precompiled_charsmap.h"
#include "megatron/tokenizers/text/unicode.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr size_t kLongestWholeGrapheme = 5;

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(PrecompiledCharsmap map) : map_(std::move(map)) {}

  void apply(TextPiece& piece) const override {
    TextPiece result;
    result.text.reserve(piece.text.size());
    const std::string_view text = piece.text;
    const auto append = [&](size_t begin, std::string_view replacement) {
      result.text += replacement;
      if (begin < piece.from_start) result.from_start = result.text.size();
    };
    for (size_t i = 0; i < text.size();) {
      const std::string_view grapheme = text.substr(i, grapheme_length(text.substr(i)));
      const auto whole =
          grapheme.size() <= kLongestWholeGrapheme ? map_.replacement(grapheme) : std::nullopt;
      if (whole) {
        append(i, *whole);
      } else {
        visit_characters(grapheme, [&](uint32_t, size_t begin, size_t end) {
          const std::string_view character = grapheme.substr(begin, end - begin);
          append(i + begin, map_.replacement(character).value_or(character));
        });
      }
      i += grapheme.size();
    }
    piece = std::move(result);
  }

 private:
  PrecompiledCharsmap map_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled_normalizer(const JsonNode& node) {
  const auto bytes = decode_base64(node.text("precompiled_charsmap"));
  if (!bytes) node["precompiled_charsmap"].refuse("base64");
  auto map = PrecompiledCharsmap::parse(*bytes);
  if (!map) node.refuse("a character map with its trie and replacements in UTF-8");
  return std::make_unique<Precompiled>(std::move(*map));
}

}  // namespace megatron
