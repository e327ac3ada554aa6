// --split: weights and bounds as in Megatron; the sampler.
#include "megatron/data/split.h"

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/sampler.h"

namespace megatron {
namespace {

using Bounds = std::pair<int64_t, int64_t>;

TEST(Split, AgreesWithMegatron) {
  const SplitMatrix matrix = parse_split("969,30,1");
  EXPECT_EQ(split_bounds(*matrix[0], 1000), Bounds(0, 969));
  EXPECT_EQ(split_bounds(*matrix[1], 1000), Bounds(969, 999));
  EXPECT_EQ(split_bounds(*matrix[2], 1000), Bounds(999, 1000));
  EXPECT_EQ(matrix[1]->first, 0.969);
  EXPECT_EQ(matrix[1]->second, 0.999);
}

TEST(Split, RoundsHalvesToEvenLikePython) {
  EXPECT_EQ(split_bounds({0, 0.5}, 5), Bounds(0, 2));
  EXPECT_EQ(split_bounds({0.5, 1}, 7), Bounds(4, 7));
  EXPECT_EQ(split_bounds({0.5, 1}, 9), Bounds(4, 9));
}

TEST(Split, HasNoSplitOfWeightZero) {
  const SplitMatrix matrix = parse_split("100,0,0");
  EXPECT_TRUE(matrix[0].has_value());
  EXPECT_FALSE(matrix[1].has_value());
  EXPECT_FALSE(matrix[2].has_value());
  EXPECT_FALSE(parse_split("9,1")[2].has_value());
  EXPECT_FALSE(parse_split("0, 1, 1")[0].has_value());
  EXPECT_EQ(parse_split("1").at(0)->second, 1.0);
}

TEST(Split, AcceptsSpacesAndSlashes) {
  for (const char* text : {"969, 30, 1", " 969 ,30,1 ", "969 30 1", "969/30/1", "969\t30, 1"}) {
    EXPECT_EQ(parse_split(text), parse_split("969,30,1")) << text;
  }
}

TEST(Split, RefusesOtherText) {
  for (const char* text : {"", "a,b", "1,,1", "1,2,3,4", "0,0,0", "-1,2", "1.2.3", "1e5,2", "9;1",
                           "inf,1", " ", "1,2 3 4"}) {
    EXPECT_THROW(parse_split(text), Error) << text;
  }
}

TEST(Sampler, AssignsConsecutiveSamplesToEachRank) {
  EXPECT_EQ(batch_sample_indices(0, 2, 0, 3), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(batch_sample_indices(0, 2, 2, 3), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(batch_sample_indices(60, 2, 1, 3), (std::vector<int64_t>{62, 63}));
  EXPECT_THROW(batch_sample_indices(0, 0, 0, 1), Error);
  EXPECT_THROW(batch_sample_indices(0, 1, 1, 1), Error);
  EXPECT_THROW(batch_sample_indices(-1, 1, 0, 1), Error);
}

}  // namespace
}  // namespace megatron
