#include "megatron/base/integer_math.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

TEST(CeilDiv, RoundsUp) {
  EXPECT_EQ(ceil_div(int64_t{0}, 4), 0);
  EXPECT_EQ(ceil_div(int64_t{1}, 4), 1);
  EXPECT_EQ(ceil_div(int64_t{8}, 4), 2);
  EXPECT_EQ(ceil_div(int64_t{9}, 4), 3);
  EXPECT_EQ(ceil_div(size_t{9}, 10), 1u);
}

TEST(RoundUp, GivesTheNextMultiple) {
  EXPECT_EQ(round_up(int64_t{0}, 8), 0);
  EXPECT_EQ(round_up(int64_t{8}, 8), 8);
  EXPECT_EQ(round_up(int64_t{9}, 8), 16);
}

TEST(Divide, RefusesARemainder) {
  EXPECT_EQ(divide(12, 4, "the rows"), 3);
  EXPECT_THAT([] { divide(13, 4, "the rows"); },
              testing::ThrowsMessage<Error>(testing::HasSubstr(
                  "Expected the rows to be a multiple of 4, but got 13; 16 works")));
}

}  // namespace
}  // namespace megatron
