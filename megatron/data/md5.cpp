#include "megatron/data/md5.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>

namespace megatron {
namespace {

using Md5State = std::array<uint32_t, 4>;

// T[i] = floor(2^32 |sin(i + 1)|), as the RFC defines the constants.
std::array<uint32_t, 64> make_sine_table() {
  std::array<uint32_t, 64> table{};
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = static_cast<uint32_t>(std::floor(std::abs(std::sin(double(i + 1))) * 4294967296.0));
  }
  return table;
}

void md5_block(const char* block, Md5State& state) {
  static const std::array<uint32_t, 64> kSines = make_sine_table();
  static constexpr int kRotations[4][4] = {
      {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
  std::array<uint32_t, 16> words;
  std::memcpy(words.data(), block, 64);
  auto [a, b, c, d] = state;
  for (uint32_t i = 0; i < 64; ++i) {
    uint32_t mixed = 0;
    uint32_t word = 0;
    switch (i / 16) {
      case 0:
        mixed = (b & c) | (~b & d);
        word = i;
        break;
      case 1:
        mixed = (d & b) | (~d & c);
        word = (5 * i + 1) % 16;
        break;
      case 2:
        mixed = b ^ c ^ d;
        word = (3 * i + 5) % 16;
        break;
      default:
        mixed = c ^ (b | ~d);
        word = (7 * i) % 16;
    }
    const uint32_t sum = a + mixed + kSines[i] + words[word];
    a = d;
    d = c;
    c = b;
    b += std::rotl(sum, kRotations[i / 16][i % 4]);
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
}

}  // namespace

std::string md5_hex(std::string_view text) {
  std::string padded(text);
  padded += '\x80';
  while (padded.size() % 64 != 56) padded += '\0';
  const uint64_t bits = uint64_t{text.size()} * 8;
  padded.append(reinterpret_cast<const char*>(&bits), sizeof bits);
  Md5State state{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  for (size_t i = 0; i < padded.size(); i += 64) md5_block(padded.data() + i, state);
  std::string hex;
  for (const uint32_t word : state) {
    for (int byte = 0; byte < 4; ++byte) hex += fmt::format("{:02x}", (word >> (8 * byte)) & 0xff);
  }
  return hex;
}

}  // namespace megatron
