#include "megatron/inference/block_manager.h"

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

BlockKey key(int64_t token) {
  return block_key({}, std::vector<int64_t>{token}, 0);
}

TEST(BlockManager, GivesEachBlockOnce) {
  BlockManager blocks(3, 4);
  EXPECT_EQ(blocks.blocks_for(0), 0);
  EXPECT_EQ(blocks.blocks_for(4), 1);
  EXPECT_EQ(blocks.blocks_for(5), 2);
  std::vector<int64_t> given;
  while (const auto block = blocks.allocate()) given.push_back(*block);
  std::ranges::sort(given);
  EXPECT_EQ(given, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(blocks.available(), 0);
  blocks.release(1);
  EXPECT_EQ(blocks.allocate(), 1);
  blocks.check_conserved();
}

TEST(BlockManager, PublishedBlocksAreFoundUntilTheyAreReused) {
  BlockManager blocks(2, 1);
  const int64_t first = *blocks.allocate(), second = *blocks.allocate();
  blocks.publish(first, key(1));
  blocks.publish(second, key(2));
  EXPECT_EQ(blocks.find(key(1)), first);
  blocks.release(first);
  blocks.release(first);
  blocks.release(second);
  EXPECT_EQ(blocks.cached(), 2);
  EXPECT_EQ(blocks.available(), 2);
  // The first block was used before the second, unless it is used again.
  EXPECT_EQ(blocks.find(key(1)), first);
  blocks.release(first);
  EXPECT_EQ(blocks.allocate(), second);
  EXPECT_EQ(blocks.evictions(), 1);
  EXPECT_FALSE(blocks.find(key(2)).has_value());
  EXPECT_EQ(blocks.find(key(1)), first);
  blocks.check_conserved();
}

TEST(BlockManager, EqualContentIsSharedFromOneBlock) {
  BlockManager blocks(2, 1);
  const int64_t first = *blocks.allocate(), second = *blocks.allocate();
  blocks.publish(first, key(1));
  blocks.publish(second, key(1));
  blocks.release(second);
  EXPECT_EQ(blocks.cached(), 0);  // free, since the other one is found
  EXPECT_EQ(blocks.find(key(1)), first);
  blocks.check_conserved();
}

TEST(BlockManager, KeysDependOnAllTokensBeforeAndOnTheVariant) {
  const std::vector<int64_t> a = {1, 2}, b = {1, 3};
  EXPECT_EQ(block_key({}, a, 0), block_key({}, a, 0));
  EXPECT_NE(block_key({}, a, 0), block_key({}, b, 0));
  EXPECT_NE(block_key({}, a, 0), block_key({}, a, 1));
  EXPECT_NE(block_key(key(1), a, 0), block_key(key(2), a, 0));
}

TEST(BlockManager, RefusesWhatIsNotInUse) {
  EXPECT_THROW(BlockManager(0, 4), Error);
  EXPECT_THROW(BlockManager(4, 0), Error);
  BlockManager blocks(2, 4);
  EXPECT_THROW(blocks.release(0), Error);
  EXPECT_THROW(blocks.publish(5, key(1)), Error);
}

}  // namespace
}  // namespace megatron
