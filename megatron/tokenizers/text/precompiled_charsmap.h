// SentencePiece's table of character replacements: a double-array trie from texts to replacements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

class PrecompiledCharsmap {
 public:
  // Layout of `map`: the size of the trie in bytes (32 bits, little-endian), the trie's units of 32
  // bits, then the replacements, each ended by a zero byte. Nothing if the sizes do not add up or the
  // replacements are not UTF-8.
  static std::optional<PrecompiledCharsmap> parse(std::string_view map);

  // The replacement of the shortest entry with which `key` begins. Reads nothing outside the map,
  // even if it is damaged.
  std::optional<std::string_view> replacement(std::string_view key) const;

  // Whether every look-up of any text stays inside the map, which libsentencepiece does not check.
  bool is_sound() const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace megatron
