#include "megatron/base/human_bytes.h"

#include <gtest/gtest.h>

namespace megatron {
namespace {

TEST(HumanBytes, TakesTheLargestUnitThatHasOne) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(16), "16 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(70144), "68.5 KiB");
  EXPECT_EQ(human_bytes(int64_t{3} << 20), "3.0 MiB");
}

}  // namespace
}  // namespace megatron
