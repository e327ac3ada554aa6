#include "megatron/tokenizers/text/precompiled_charsmap.h"

#include <algorithm>
#include <cstring>

#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

// A unit holds its label in bits 0 to 7, whether it has a value in bit 8, and the offset of its
// children in bits 10 to 30, scaled by bit 9. A value's unit has bit 31 set and the value in the
// other bits.
constexpr uint32_t kValueBit = uint32_t{1} << 31;
constexpr size_t kLabels = 256;

size_t unit_offset(uint32_t unit) {
  return (unit >> 10) << ((unit & (uint32_t{1} << 9)) >> 6);
}
uint32_t unit_label(uint32_t unit) {
  return unit & (kValueBit | 0xFF);
}
bool unit_has_value(uint32_t unit) {
  return ((unit >> 8) & 1) != 0;
}

}  // namespace

std::optional<PrecompiledCharsmap> PrecompiledCharsmap::parse(std::string_view map) {
  uint32_t trie_bytes = 0;
  if (map.size() < sizeof trie_bytes) return std::nullopt;
  std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
  map.remove_prefix(sizeof trie_bytes);
  if (trie_bytes == 0 || trie_bytes > map.size() || trie_bytes % sizeof(uint32_t) != 0) {
    return std::nullopt;
  }
  PrecompiledCharsmap result;
  result.units_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(result.units_.data(), map.data(), trie_bytes);
  result.replacements_ = map.substr(trie_bytes);
  if (valid_utf8_prefix(result.replacements_) != result.replacements_.size()) return std::nullopt;
  return result;
}

std::optional<std::string_view> PrecompiledCharsmap::replacement(std::string_view key) const {
  size_t place = unit_offset(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    place ^= byte;
    if (place >= units_.size() || unit_label(units_[place]) != byte) break;
    const uint32_t unit = units_[place];
    place ^= unit_offset(unit);
    if (!unit_has_value(unit)) continue;
    if (place >= units_.size()) break;
    const size_t begin = units_[place] & ~kValueBit;
    if (begin > replacements_.size()) break;
    const size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    const auto text = std::string_view(replacements_).substr(begin, end - begin);
    if (valid_utf8_prefix(text) != text.size()) break;
    return text;
  }
  return std::nullopt;
}

bool PrecompiledCharsmap::is_sound() const {
  if (!replacements_.ends_with('\0')) return false;
  std::vector<bool> seen(units_.size());
  std::vector<size_t> places = {unit_offset(units_[0])};
  while (!places.empty()) {
    const size_t place = places.back();
    places.pop_back();
    if ((place | (kLabels - 1)) >= units_.size()) return false;
    if (seen[place]) continue;
    seen[place] = true;
    for (size_t label = 0; label < kLabels; ++label) {
      const uint32_t unit = units_[place ^ label];
      if (unit_label(unit) != label) continue;
      const size_t next = place ^ label ^ unit_offset(unit);
      if (unit_has_value(unit)) {
        if (next >= units_.size()) return false;
        if ((units_[next] & ~kValueBit) >= replacements_.size()) return false;
      }
      places.push_back(next);
    }
  }
  return true;
}

}  // namespace megatron
