#include "megatron/base/human_bytes.h"

#include <gtest/gtest.h>

namespace megatron {
namespace {

TEST(HumanBytes, UsesTheLargestUnitThatGivesAtLeastOne) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(16), "16 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(70144), "68.5 KiB");
  EXPECT_EQ(human_bytes(int64_t{3} << 20), "3.0 MiB");
}

TEST(HumanParameters, UsesThousandsMillionsBillions) {
  EXPECT_EQ(human_parameters(0), "0");
  EXPECT_EQ(human_parameters(999), "999");
  EXPECT_EQ(human_parameters(12350), "12.35K");
  EXPECT_EQ(human_parameters(124439808), "124.44M");
  EXPECT_EQ(human_parameters(999'994'999), "999.99M");
  EXPECT_EQ(human_parameters(999'995'000), "1.00B");
  EXPECT_EQ(human_parameters(7'506'570'000), "7.51B");
  EXPECT_EQ(human_parameters(1'040'000'000'000), "1.04T");
  EXPECT_EQ(human_parameters(5'000'000'000'000'000), "5000.00T");
}

}  // namespace
}  // namespace megatron
