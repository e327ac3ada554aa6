// Batch sizes of a ramp, against Megatron's RampupBatchsizeNumMicroBatchesCalculator.
#include "megatron/config/model/batch_size.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

namespace megatron {
namespace {

using ::testing::ElementsAre;

BatchConfig ramp(int64_t first, int64_t increment, int64_t samples, int64_t last,
                 int64_t micro_batch = 1) {
  return {.micro_batch_size = micro_batch,
          .global_batch_size = last,
          .rampup_batch_size = {first, increment, samples}};
}

std::vector<int64_t> first_sizes(const BatchSizeSchedule& schedule, int64_t steps) {
  std::vector<int64_t> sizes;
  for (int64_t consumed = 0; std::ssize(sizes) < steps;) {
    sizes.push_back(schedule.batch_size(consumed));
    consumed += sizes.back();
  }
  return sizes;
}

TEST(BatchSizeSchedule, IsConstantWithoutARamp) {
  const BatchSizeSchedule schedule({.micro_batch_size = 2}, /*data_parallel_size=*/3);
  EXPECT_FALSE(schedule.ramps());
  EXPECT_EQ(schedule.batch_size(0), 6);
  EXPECT_EQ(schedule.batch_size(1000), 6);
  EXPECT_THAT(schedule.batch_sizes(), ElementsAre(6));
  EXPECT_EQ(schedule.steps_until(20), 3);
  EXPECT_EQ(schedule.steps_until(20, /*consumed_samples=*/10), 1);
  EXPECT_EQ(schedule.steps_until(5), 0);
}

TEST(BatchSizeSchedule, GrowsAsInMegatron) {
  EXPECT_THAT(first_sizes(BatchSizeSchedule(ramp(4, 2, 30, 10), 1), 9),
              ElementsAre(4, 4, 4, 6, 6, 8, 10, 10, 10));
  EXPECT_THAT(first_sizes(BatchSizeSchedule(ramp(2, 2, 12, 8), 1), 7),
              ElementsAre(2, 2, 4, 6, 8, 8, 8));
  EXPECT_THAT(BatchSizeSchedule(ramp(4, 2, 30, 10), 1).batch_sizes(), ElementsAre(4, 6, 8, 10));
}

// The ramp and length of the 175B example: its first steps of each size, and all of its steps.
TEST(BatchSizeSchedule, FollowsTheExampleOf175B) {
  const BatchSizeSchedule schedule(ramp(16, 16, 5859375, 1536), /*data_parallel_size=*/8);
  for (const auto& [consumed, size] : std::vector<std::pair<int64_t, int64_t>>{
           {61664, 16}, {61680, 32}, {123344, 32}, {123376, 48}, {5859424, 1536}})
    EXPECT_EQ(schedule.batch_size(consumed), size) << consumed;
  EXPECT_EQ(schedule.steps_until(61680), 3855);
  EXPECT_EQ(schedule.steps_until(5859424), 19802);
  EXPECT_EQ(schedule.steps_until(146484375), 111354);
}

TEST(BatchSizeSchedule, RoundsDownWhereAsked) {
  BatchConfig config = ramp(4, 2, 30, 10, /*micro_batch=*/2);
  config.decrease_batch_size_if_needed = true;
  const BatchSizeSchedule schedule(config, /*data_parallel_size=*/2);
  EXPECT_THAT(schedule.batch_sizes(), ElementsAre(4, 8));
  EXPECT_EQ(schedule.final_batch_size(), 8);
  EXPECT_EQ(schedule.batch_size(12), 4);  // 6 rounded down
  EXPECT_EQ(global_batch_size(config, 2), 8);
}

// A run that stops in the ramp drops the incomplete last batch too.
TEST(BatchSizeSchedule, DropsAnIncompleteLastBatch) {
  const BatchSizeSchedule schedule(ramp(4, 2, 30, 10), 1);
  EXPECT_EQ(schedule.steps_until(17), 3);
  EXPECT_EQ(schedule.steps_until(18), 4);
  EXPECT_EQ(schedule.steps_until(18, 12), 1);
  EXPECT_EQ(schedule.steps_until(60), 8);
}

}  // namespace
}  // namespace megatron
