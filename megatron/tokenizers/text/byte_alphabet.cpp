#include "megatron/tokenizers/text/byte_alphabet.h"

#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr uint32_t kFirstStandIn = 0x100;
constexpr uint32_t kStandIns = 68;

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// Code point -> byte, for code points below kFirstStandIn + kStandIns; -1 where none.
std::array<int, kFirstStandIn + kStandIns> make_reverse() {
  std::array<int, kFirstStandIn + kStandIns> reverse{};
  reverse.fill(-1);
  uint32_t next = kFirstStandIn;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    reverse[stands_for_itself(byte) ? byte : next++] = static_cast<int>(byte);
  }
  return reverse;
}

}  // namespace

const std::array<std::string, 256>& byte_alphabet() {
  static const std::array<std::string, 256> alphabet = [] {
    std::array<std::string, 256> characters;
    const auto reverse = make_reverse();
    for (uint32_t code = 0; code < reverse.size(); ++code) {
      if (reverse[code] >= 0) append_utf8(code, characters[static_cast<size_t>(reverse[code])]);
    }
    return characters;
  }();
  return alphabet;
}

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  static const auto reverse = make_reverse();
  std::string bytes;
  while (!spelling.empty()) {
    if (valid_utf8_prefix(spelling.substr(0, utf8_length(spelling[0]))) == 0) return std::nullopt;
    const uint32_t code = decode_utf8(spelling);
    if (code >= reverse.size() || reverse[code] < 0) return std::nullopt;
    bytes += static_cast<char>(reverse[code]);
    spelling.remove_prefix(utf8_length(spelling[0]));
  }
  return bytes;
}

}  // namespace megatron
