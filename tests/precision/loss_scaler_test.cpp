#include "megatron/precision/loss_scaler.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(LossScaler, ConstantScaleStays) {
  ConstantLossScaler scaler(512);
  scaler.update(/*found_inf=*/true);
  EXPECT_EQ(scaler.scale(), 512);
  EXPECT_EQ(scaler.inverse_scale(), 1.0f / 512);
}

TEST(LossScaler, DynamicScaleStopsAtItsMinimum) {
  DynamicLossScaler scaler({.initial_scale = 4, .min_scale = 2, .hysteresis = 1});
  for (int step = 0; step < 5; ++step) scaler.update(/*found_inf=*/true);
  EXPECT_EQ(scaler.scale(), 2);
}

TEST(LossScaler, RefusesArguments) {
  EXPECT_THAT([] { ConstantLossScaler scaler(0); },
              ThrowsMessage<Error>(HasSubstr("Expected a positive finite loss scale, but got 0")));
  EXPECT_THAT([] { DynamicLossScaler scaler({.initial_scale = 2, .min_scale = 4}); },
              ThrowsMessage<Error>(HasSubstr("at most the initial loss scale 2, but got 4")));
  EXPECT_THAT([] { DynamicLossScaler scaler({.growth_interval = 0}); },
              ThrowsMessage<Error>(HasSubstr("loss_scale_window")));
  EXPECT_THAT([] { DynamicLossScaler scaler({.hysteresis = 0}); },
              ThrowsMessage<Error>(HasSubstr("hysteresis")));
}

}  // namespace
}  // namespace megatron
