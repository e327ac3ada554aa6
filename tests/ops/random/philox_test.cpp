#include "megatron/ops/random/philox.h"

#include <set>

#include <gtest/gtest.h>

namespace megatron {
namespace {

using Words = std::array<uint32_t, 4>;

// The known answers that Random123 publishes for philox4x32 with 10 rounds.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(
      philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
      (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, LanesEqualBlocksOfConsecutiveCounters) {
  uint32_t word[4][16];
  philox4x32_10_lanes<16>(0xfffffff0u - 16, 7, 8, 9, 10, 11, word[0], word[1], word[2], word[3]);
  for (uint32_t i = 0; i < 16; ++i) {
    const Words block = philox4x32_10({0xfffffff0u - 16 + i, 7, 8, 9}, {10, 11});
    for (int j = 0; j < 4; ++j) EXPECT_EQ(word[j][i], block[j]);
  }
}

TEST(Philox, NamesAndSeedsGiveDistinctKeys) {
  std::set<uint64_t> keys;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    for (const char* name : {"", "a", "b", "ab", "ba", "decoder.layers.0", "decoder.layers.1"}) {
      keys.insert(hash_name(seed, name));
    }
  }
  EXPECT_EQ(keys.size(), 350u);
  // Must never change: every version draws the same initial weights from a seed.
  EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafull);
}

}  // namespace
}  // namespace megatron
