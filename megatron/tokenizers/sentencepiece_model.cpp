#include "megatron/tokenizers/sentencepiece_model.h"

#include <algorithm>
#include <bit>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/protobuf.h"

namespace megatron {
namespace {

// Numbers of fields in sentencepiece_model.proto.
enum ModelField : uint64_t { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum PieceField : uint64_t { kPieceText = 1, kPieceScore = 2, kPieceType = 3 };
enum TrainerField : uint64_t {
  kModelType = 3,
  kByteFallback = 35,
  kUnknownId = 40,
  kBosId = 41,
  kEosId = 42,
  kPadId = 43,
  kUnknownText = 45,
  kBosText = 46,
  kEosText = 47,
  kPadText = 48,
};
enum NormalizerField : uint64_t { kMap = 2, kDummyPrefix = 3, kExtraSpaces = 4, kEscape = 5 };

bool read_piece(std::string_view content, SentencePieceModel::Piece& piece) {
  return visit_protobuf(content, [&](const ProtobufField& field) {
    if (field.number == kPieceText) piece.text = field.content;
    if (field.number == kPieceType) piece.type = static_cast<uint32_t>(field.value);
    if (field.number == kPieceScore) {
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    }
    return true;
  });
}

bool read_trainer(std::string_view content, SentencePieceModel& model) {
  return visit_protobuf(content, [&](const ProtobufField& field) {
    if (field.number == kModelType) model.type = field.value;
    if (field.number == kBosText) model.bos_piece = field.content;
    if (field.number == kEosText) model.eos_piece = field.content;
    if (field.number == kPadText) model.pad_piece = field.content;
    return true;
  });
}

bool read_normalizer(std::string_view content, SentencePieceModel& model) {
  return visit_protobuf(content, [&](const ProtobufField& field) {
    if (field.number == kMap) model.charsmap = field.content;
    if (field.number == kDummyPrefix) model.add_dummy_prefix = field.value != 0;
    if (field.number == kExtraSpaces) model.remove_extra_whitespaces = field.value != 0;
    return true;
  });
}

// An id as the format stores it: a negative one takes ten bytes.
void append_id(std::string& message, uint64_t number, const SentencePieceModel& model,
               std::string_view piece) {
  const auto found = std::find_if(model.pieces.begin(), model.pieces.end(),
                                  [&](const auto& other) { return other.text == piece; });
  const int64_t id = found == model.pieces.end() ? -1 : found - model.pieces.begin();
  append_varint_field(message, number, static_cast<uint64_t>(id));
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view content, const std::string& source) {
  SentencePieceModel model;
  const bool valid = visit_protobuf(content, [&](const ProtobufField& field) {
    if (field.number == kPieces) return read_piece(field.content, model.pieces.emplace_back());
    if (field.number == kTrainer) return read_trainer(field.content, model);
    if (field.number == kNormalizer) return read_normalizer(field.content, model);
    return true;
  });
  check(valid && !model.pieces.empty(),
        "Expected {} to be a SentencePiece model, but it is not: its fields are damaged", source);
  return model;
}

std::string serialize_sentencepiece_model(const SentencePieceModel& model) {
  std::string content;
  bool bytes = false;
  std::string unknown = "<unk>";
  for (const auto& piece : model.pieces) {
    std::string message;
    append_bytes_field(message, kPieceText, piece.text);
    append_float_field(message, kPieceScore, piece.score);
    append_varint_field(message, kPieceType, piece.type);
    append_bytes_field(content, kPieces, message);
    bytes = bytes || piece.type == SentencePieceModel::kByte;
    if (piece.type == SentencePieceModel::kUnknown) unknown = piece.text;
  }
  std::string trainer;
  append_varint_field(trainer, kModelType, model.type);
  append_varint_field(trainer, kByteFallback, bytes ? 1 : 0);
  append_id(trainer, kUnknownId, model, unknown);
  append_id(trainer, kBosId, model, model.bos_piece);
  append_id(trainer, kEosId, model, model.eos_piece);
  append_id(trainer, kPadId, model, model.pad_piece);
  append_bytes_field(trainer, kUnknownText, unknown);
  append_bytes_field(trainer, kBosText, model.bos_piece);
  append_bytes_field(trainer, kEosText, model.eos_piece);
  append_bytes_field(trainer, kPadText, model.pad_piece);
  append_bytes_field(content, kTrainer, trainer);
  std::string normalizer;
  if (!model.charsmap.empty()) append_bytes_field(normalizer, kMap, model.charsmap);
  append_varint_field(normalizer, kDummyPrefix, model.add_dummy_prefix ? 1 : 0);
  append_varint_field(normalizer, kExtraSpaces, model.remove_extra_whitespaces ? 1 : 0);
  append_varint_field(normalizer, kEscape, 1);
  append_bytes_field(content, kNormalizer, normalizer);
  return content;
}

}  // namespace megatron
