#include "megatron/tokenizers/sentencepiece_check.h"

#include <cstdint>
#include <functional>
#include <optional>

#include "megatron/tokenizers/text/precompiled_charsmap.h"

namespace megatron {
namespace {

// Numbers of fields in sentencepiece_model.proto.
constexpr uint64_t kNormalizerSpec = 3;    // of ModelProto
constexpr uint64_t kDenormalizerSpec = 5;  // of ModelProto
constexpr uint64_t kCharsmap = 2;          // of NormalizerSpec

std::optional<uint64_t> take_varint(std::string_view& data) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !data.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(data.front());
    data.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

// Calls accept(number, content) for each field with a length. False for malformed data, or once
// `accept` returns false.
bool visit_fields(std::string_view data,
                  const std::function<bool(uint64_t number, std::string_view content)>& accept) {
  while (!data.empty()) {
    const auto key = take_varint(data);
    if (!key) return false;
    size_t skipped = 0;
    switch (*key & 7) {
      case 0:
        if (!take_varint(data)) return false;
        break;
      case 1:
        skipped = 8;
        break;
      case 2: {
        const auto size = take_varint(data);
        if (!size || *size > data.size()) return false;
        if (!accept(*key >> 3, data.substr(0, *size))) return false;
        skipped = *size;
        break;
      }
      case 5:
        skipped = 4;
        break;
      default:
        return false;
    }
    if (skipped > data.size()) return false;
    data.remove_prefix(skipped);
  }
  return true;
}

bool has_sound_charsmaps(std::string_view normalizer_spec) {
  return visit_fields(normalizer_spec, [](uint64_t number, std::string_view content) {
    if (number != kCharsmap || content.empty()) return true;
    const auto map = PrecompiledCharsmap::parse(content);
    return map && map->is_sound();
  });
}

}  // namespace

bool is_safe_sentencepiece_model(std::string_view model) {
  return visit_fields(model, [](uint64_t number, std::string_view content) {
    const bool normalizer = number == kNormalizerSpec || number == kDenormalizerSpec;
    return !normalizer || has_sound_charsmaps(content);
  });
}

}  // namespace megatron
