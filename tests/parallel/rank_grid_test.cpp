// Rank groups against tables computed by hand from Megatron's order, fastest axis first.
#include "megatron/parallel/rank_grid.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(RankGrid, TensorPipelineData) {
  // The example in Megatron's documentation of initialize_model_parallel: 16 ranks, tp 2, pp 4.
  const RankGrid grid({.tp = 2, .dp = 2, .pp = 4});
  EXPECT_EQ(grid.world_size(), 16);
  EXPECT_EQ(grid.get_ranks("tp"),
            (RankLists{{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {10, 11}, {12, 13}, {14, 15}}));
  EXPECT_EQ(grid.get_ranks("dp"),
            (RankLists{{0, 2}, {1, 3}, {4, 6}, {5, 7}, {8, 10}, {9, 11}, {12, 14}, {13, 15}}));
  EXPECT_EQ(grid.get_ranks("pp"),
            (RankLists{{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15}}));
  EXPECT_EQ(grid.get_ranks("tp-pp"),
            (RankLists{{0, 1, 4, 5, 8, 9, 12, 13}, {2, 3, 6, 7, 10, 11, 14, 15}}));
  EXPECT_EQ(grid.get_ranks("pp-tp"), grid.get_ranks("tp-pp"));
  EXPECT_EQ(grid.embedding_ranks(), (RankLists{{0, 12}, {1, 13}, {2, 14}, {3, 15}}));
  EXPECT_EQ(grid.position_embedding_ranks(), (RankLists{{0}, {1}, {2}, {3}}));
}

TEST(RankGrid, ContextParallelIsBetweenTensorAndData) {
  const RankGrid grid({.tp = 2, .cp = 2, .dp = 2});
  EXPECT_EQ(grid.get_ranks("cp"), (RankLists{{0, 2}, {1, 3}, {4, 6}, {5, 7}}));
  EXPECT_EQ(grid.get_ranks("dp"), (RankLists{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
  EXPECT_EQ(grid.get_ranks("dp-cp"), (RankLists{{0, 2, 4, 6}, {1, 3, 5, 7}}));
  EXPECT_EQ(grid.get_ranks("tp-cp"), (RankLists{{0, 1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_EQ(grid.get_ranks("tp-dp-cp"), (RankLists{{0, 1, 2, 3, 4, 5, 6, 7}}));
  EXPECT_EQ(grid.get_ranks("pp"), (RankLists{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}));
  EXPECT_EQ(grid.embedding_ranks().front(), std::vector<int>{0});
}

TEST(RankGrid, ContextAndPipeline) {
  const RankGrid grid({.tp = 1, .cp = 2, .dp = 2, .pp = 2});
  EXPECT_EQ(grid.get_ranks("cp"), (RankLists{{0, 1}, {2, 3}, {4, 5}, {6, 7}}));
  EXPECT_EQ(grid.get_ranks("dp"), (RankLists{{0, 2}, {1, 3}, {4, 6}, {5, 7}}));
  EXPECT_EQ(grid.get_ranks("pp"), (RankLists{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
  EXPECT_EQ(grid.get_ranks("dp-cp"), (RankLists{{0, 1, 2, 3}, {4, 5, 6, 7}}));
}

TEST(RankGrid, ExpertsDivideDataParallelism) {
  const RankGrid grid({.tp = 2, .ep = 2, .dp = 4});
  EXPECT_EQ(grid.expert_data_parallel_size(), 2);
  EXPECT_EQ(grid.get_expert_ranks("tp"), (RankLists{{0, 1}, {2, 3}, {4, 5}, {6, 7}}));
  EXPECT_EQ(grid.get_expert_ranks("ep"), (RankLists{{0, 2}, {1, 3}, {4, 6}, {5, 7}}));
  EXPECT_EQ(grid.get_expert_ranks("dp"), (RankLists{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
  EXPECT_EQ(grid.get_expert_ranks("tp-ep"), (RankLists{{0, 1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_EQ(grid.get_ranks("dp"), (RankLists{{0, 2, 4, 6}, {1, 3, 5, 7}}));
}

TEST(RankGrid, SeparateExpertTensorParallelSize) {
  const RankGrid grid({.tp = 2, .ep = 4, .dp = 4, .expt_tp = 1});
  EXPECT_EQ(grid.expert_data_parallel_size(), 2);
  EXPECT_EQ(grid.get_expert_ranks("ep"), (RankLists{{0, 1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_EQ(grid.get_expert_ranks("dp"), (RankLists{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
}

TEST(RankGrid, ExpertsCrossContextParallelism) {
  const RankGrid grid({.cp = 2, .ep = 4, .dp = 2, .pp = 2});
  EXPECT_EQ(grid.expert_data_parallel_size(), 1);
  EXPECT_EQ(grid.get_expert_ranks("ep"), (RankLists{{0, 1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_EQ(grid.get_expert_ranks("tp-ep-pp"), (RankLists{{0, 1, 2, 3, 4, 5, 6, 7}}));
  EXPECT_EQ(grid.get_expert_ranks("pp"), grid.get_ranks("pp"));
}

TEST(RankGrid, OtherOrder) {
  const RankGrid grid({.tp = 2, .dp = 2, .pp = 2}, "tp-cp-ep-pp-dp");
  EXPECT_EQ(grid.get_ranks("pp"), (RankLists{{0, 2}, {1, 3}, {4, 6}, {5, 7}}));
  EXPECT_EQ(grid.get_ranks("dp"), (RankLists{{0, 4}, {1, 5}, {2, 6}, {3, 7}}));
  EXPECT_THAT(
      [] { RankGrid({.tp = 2, .ep = 4, .dp = 2, .pp = 2, .expt_tp = 1}, "tp-cp-ep-pp-dp"); },
      ThrowsMessage<Error>(HasSubstr("ends in pp")));
}

TEST(RankGrid, CoordinatesAreThoseOfTheGroups) {
  const RankGrid grid({.tp = 2, .cp = 2, .ep = 2, .dp = 2, .pp = 2});
  const auto place = [&](int rank) { return grid.coordinates(rank); };
  EXPECT_EQ(place(13).tp, 1);  // 13 = 1 + 2*0 + 4*1 + 8*1
  EXPECT_EQ(place(13).cp, 0);
  EXPECT_EQ(place(13).dp, 1);
  EXPECT_EQ(place(13).pp, 1);
  EXPECT_EQ(place(13).ep, 0);
  EXPECT_EQ(place(10).ep, 1);
  for (const auto& group : grid.get_ranks("dp")) {
    for (size_t i = 0; i < group.size(); ++i) EXPECT_EQ(place(group[i]).dp, static_cast<int>(i));
  }
  EXPECT_THROW(grid.coordinates(16), Error);
}

TEST(RankGrid, Errors) {
  const RankGrid grid({.tp = 2});
  EXPECT_THAT([&] { grid.get_ranks("tq"); }, ThrowsMessage<Error>(HasSubstr("nearest is 'tp'")));
  EXPECT_THAT([] { RankGenerator({.tp = 2, .pp = 2}, "tp-dp"); },
              ThrowsMessage<Error>(HasSubstr("lacks pp (size 2)")));
  EXPECT_THAT([] { RankGenerator({.tp = 2}, "tp-tp"); }, ThrowsMessage<Error>(HasSubstr("twice")));
  EXPECT_THAT([] { RankGrid({.tp = 0}); }, ThrowsMessage<Error>(HasSubstr("at least 1")));
  EXPECT_THAT([] { RankGrid({.tp = 2, .ep = 3, .dp = 4}); },
              ThrowsMessage<Error>(HasSubstr("that work: 1, 2, 4")));
}

TEST(WorldSize, ErrorsNameTheNearestSizes) {
  EXPECT_NO_THROW(check_world_size({.tp = 2, .dp = 2, .pp = 2}, 8));
  EXPECT_THAT(
      [] { check_world_size({.tp = 3, .dp = 2}, 8); },
      ThrowsMessage<Error>(testing::AllOf(HasSubstr("the 8 ranks of the world, but they give 6"),
                                          HasSubstr("tensor 4, context 1, pipeline 1, data 2"))));
  EXPECT_THAT([] { check_world_size({.tp = 2}, 8); },
              ThrowsMessage<Error>(HasSubstr("tensor 2, context 1, pipeline 1, data 4")));
  EXPECT_EQ(with_data_parallel({.tp = 2, .pp = 2}, 8).dp, 2);
  EXPECT_THAT([] { with_data_parallel({.tp = 2, .pp = 3}, 8); },
              ThrowsMessage<Error>(HasSubstr("multiple of 6 ranks")));
}

}  // namespace
}  // namespace megatron
