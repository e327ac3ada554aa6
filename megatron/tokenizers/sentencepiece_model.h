// The parts of a SentencePiece model (sentencepiece_model.proto) that other formats store too: pieces
// with scores, and how text is prepared.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct SentencePieceModel {
  // Numbers of SentencePiece and of GGUF.
  enum PieceType : uint32_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6,
  };
  struct Piece {
    std::string text;
    float score = 0;
    uint32_t type = kNormal;
  };
  static constexpr uint64_t kUnigram = 1, kBpe = 2;  // of `type`

  std::vector<Piece> pieces;
  uint64_t type = kUnigram;
  std::string bos_piece = "<s>", eos_piece = "</s>", pad_piece = "<pad>";
  std::string charsmap;  // normalization of characters
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

// Throws Error for content that is not such a model; `source` names it.
SentencePieceModel parse_sentencepiece_model(std::string_view content, const std::string& source);

// The content of a file.
std::string serialize_sentencepiece_model(const SentencePieceModel& model);

}  // namespace megatron
