// The layout of Megatron's .idx file, all little endian:
//   offset 0   9 bytes   "MMIDIDX" and two zero bytes
//          9   u64       version, 1
//         17   u8        token type, see TokenType
//         18   u64       S, number of sequences
//         26   u64       N, number of document boundaries (documents + 1)
//         34   i32[S]    tokens in each sequence
//    34 + 4S   i64[S]    byte offset of each sequence in the .bin
//   34 + 12S   i64[N]    document boundaries as sequence numbers: first 0, last S
// The .bin holds the tokens of all sequences back to back, without a header.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace megatron {

static_assert(std::endian::native == std::endian::little, "the files are read without byte swaps");

inline constexpr std::string_view kIndexMagic{"MMIDIDX\0\0", 9};
inline constexpr uint64_t kIndexVersion = 1;
inline constexpr int64_t kIndexHeaderSize = 34;

// Codes of Megatron's DType. Its codes 6 and 7 are floating-point types, which tokens cannot have.
enum class TokenType : uint8_t { uint8 = 1, int8 = 2, int16 = 3, int32 = 4, int64 = 5, uint16 = 8 };

constexpr int64_t size_of(TokenType type) {
  switch (type) {
    case TokenType::uint8:
    case TokenType::int8:
      return 1;
    case TokenType::int16:
    case TokenType::uint16:
      return 2;
    case TokenType::int32:
      return 4;
    case TokenType::int64:
      return 8;
  }
  return 0;  // unknown code
}

// Megatron's optimal_dtype: two bytes per token if the vocabulary allows it.
constexpr TokenType token_type_for(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::uint16 : TokenType::int32;
}

}  // namespace megatron
