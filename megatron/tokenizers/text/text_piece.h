// A part of a document on its way through normalizers and pre-tokenizers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace megatron {

struct TextPiece {
  std::string text;  // valid UTF-8
  // Bytes at the front that stand for the document's first character; 0 in other pieces. Metaspace
  // asks for them: "first" prepends only where the document begins.
  size_t from_start = 0;

  // The part [begin, end).
  TextPiece part(size_t begin, size_t end) const {
    const size_t start = from_start > begin ? std::min(from_start, end) - begin : 0;
    return {text.substr(begin, end - begin), start};
  }
};

}  // namespace megatron
