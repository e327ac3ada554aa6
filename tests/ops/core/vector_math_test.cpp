#include "megatron/ops/core/vector_math.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace megatron::lanes {
namespace {

float exp_of(float x) {
  return exp(Floats{} + x)[0];
}

TEST(VectorMath, ExpIsAccurate) {
  for (double x = -86.5; x < 88.7; x += 0.00317) {
    const float argument = static_cast<float>(x);
    const double want = std::exp(static_cast<double>(argument));
    ASSERT_NEAR(exp_of(argument) / want, 1.0, 1.5e-7) << argument;
  }
}

TEST(VectorMath, ExpHandlesExtremeArguments) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0), 1.0f);
  EXPECT_EQ(exp_of(-infinity), 0.0f);
  EXPECT_EQ(exp_of(-200.0f), 0.0f);
  EXPECT_EQ(exp_of(-1e30f), 0.0f);
  EXPECT_EQ(exp_of(88.8f), infinity);
  EXPECT_EQ(exp_of(1e30f), infinity);
  EXPECT_EQ(exp_of(infinity), infinity);
  EXPECT_TRUE(std::isnan(exp_of(NAN)));
  EXPECT_TRUE(std::isfinite(exp_of(88.7228f)));
}

TEST(VectorMath, NormalDistributionIsAccurate) {
  for (double x = -12; x < 12; x += 0.00113) {
    const float argument = static_cast<float>(x);
    Floats density, cumulative;
    normal_distribution(Floats{} + argument, density, cumulative);
    const double want = 0.5 * std::erfc(-static_cast<double>(argument) * M_SQRT1_2);
    // In the far tail the rounding error of the exponent grows with x^2 / 2.
    const double bound = 3e-7 + 1e-7 * argument * argument / 2;
    ASSERT_NEAR(cumulative[0] / want, 1.0, argument < 0 ? bound : 4e-7) << argument;
    ASSERT_NEAR(density[0] / std::exp(-0.5 * argument * argument), 1.0, bound) << argument;
  }
}

TEST(VectorMath, Bf16RoundsToNearestEven) {
  for (uint32_t bits : {0x3F800000u, 0x3F807FFFu, 0x3F808000u, 0x3F808001u, 0x3F818000u,
                        0xBF818000u, 0x7F7FFFFFu, 0x7F800000u, 0xFF800000u, 0x00000001u, 0u}) {
    const float value = std::bit_cast<float>(bits);
    c10::BFloat16 stored[16];
    store<c10::BFloat16>(stored, Floats{} + value);
    EXPECT_EQ(stored[3].x, c10::BFloat16(value).x) << std::hex << bits;
    EXPECT_EQ(load<c10::BFloat16>(stored)[5], static_cast<float>(stored[5]));
  }
  c10::BFloat16 stored[16];
  store<c10::BFloat16>(stored, Floats{} + NAN);
  EXPECT_TRUE(std::isnan(static_cast<float>(stored[0])));
}

// Every fp16 value round-trips, and floats are rounded as c10 does.
TEST(VectorMath, Fp16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    c10::Half stored[16];
    std::fill(stored, stored + 16, c10::Half(static_cast<uint16_t>(bits), c10::Half::from_bits()));
    const Floats wide = load<c10::Half>(stored);
    const float want = static_cast<float>(stored[0]);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(wide[3])) << std::hex << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[3]), std::bit_cast<uint32_t>(want)) << std::hex << bits;
    store<c10::Half>(stored, wide);
    ASSERT_EQ(stored[5].x, bits);
  }
  for (uint64_t bits = 0; bits < 0x100000000u; bits += 4099) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    c10::Half stored[16];
    store<c10::Half>(stored, Floats{} + value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(stored[0])));
    } else {
      ASSERT_EQ(stored[7].x, c10::Half(value).x) << std::hex << bits;
    }
  }
}

TEST(VectorMath, PartialLoadsAndStoresTouchNothingElse) {
  const float from[20] = {1, 2, 3, 4, 5, 6, 7};
  float to[20];
  std::fill(to, to + 20, -1.0f);
  store<float>(to, load<float>(from, 5, 9.0f), 7);
  const float want[8] = {1, 2, 3, 4, 5, 9, 9, -1};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(to[i], want[i]);
}

TEST(VectorMath, ReductionsAndSqrtAreExact) {
  Floats values;
  for (int i = 0; i < 16; ++i) values[i] = static_cast<float>(i * i);
  EXPECT_EQ(sum_lanes(values), 1240.0f);
  EXPECT_EQ(max_lanes(values), 225.0f);
  const Floats roots = sqrt(values);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(roots[i], static_cast<float>(i));
}

}  // namespace
}  // namespace megatron::lanes
