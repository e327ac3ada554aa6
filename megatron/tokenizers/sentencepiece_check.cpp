#include "megatron/tokenizers/sentencepiece_check.h"

#include <cstdint>

#include "megatron/tokenizers/text/precompiled_charsmap.h"
#include "megatron/tokenizers/text/protobuf.h"

namespace megatron {
namespace {

// Numbers of fields in sentencepiece_model.proto.
constexpr uint64_t kNormalizerSpec = 3;    // of ModelProto
constexpr uint64_t kDenormalizerSpec = 5;  // of ModelProto
constexpr uint64_t kCharsmap = 2;          // of NormalizerSpec

bool has_sound_charsmaps(std::string_view normalizer_spec) {
  return visit_protobuf(normalizer_spec, [](const ProtobufField& field) {
    if (field.number != kCharsmap || field.content.empty()) return true;
    const auto map = PrecompiledCharsmap::parse(field.content);
    return map && map->is_sound();
  });
}

}  // namespace

bool is_safe_sentencepiece_model(std::string_view model) {
  return visit_protobuf(model, [](const ProtobufField& field) {
    const bool normalizer = field.number == kNormalizerSpec || field.number == kDenormalizerSpec;
    return !normalizer || has_sound_charsmaps(field.content);
  });
}

}  // namespace megatron
