// Models and layouts drawn at random: all agree with one rank, and every option takes part.
#include "megatron/verify/random_draws.h"

#include <set>

#include <gtest/gtest.h>

#include "megatron/config/options/command_line.h"
#include "megatron/verify/layout_verification.h"
#include "megatron/verify/verification_model.h"
#include "megatron/verify/verification_report.h"

namespace megatron {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int64_t kDraws = 40;
constexpr double kDrawBound = 1e-8;

class RandomLayout : public testing::TestWithParam<int64_t> {};

TEST_P(RandomLayout, AgreesWithOneRank) {
  constexpr int64_t kShare = kDraws / 4;
  for (int64_t index = GetParam() * kShare; index < (GetParam() + 1) * kShare; ++index) {
    const RandomDraw draw = random_draw(kSeed, index);
    SCOPED_TRACE(draw.command());
    ParsedCommand command = parse_options(Command::verify_layout, draw.flags);
    complete_verification_model(command.options, command.given);
    const LayoutResult result = LayoutVerification(command.options).verify(draw.layout);
    EXPECT_TRUE(result.holds(kDrawBound)) << VerificationReport(kDrawBound, 20).row(result);
  }
}

INSTANTIATE_TEST_SUITE_P(Draws, RandomLayout, testing::Range<int64_t>(0, 4));

TEST(RandomDraw, IsAFunctionOfSeedAndIndex) {
  EXPECT_EQ(random_draw(3, 7).command(), random_draw(3, 7).command());
  EXPECT_NE(random_draw(3, 7).command(), random_draw(3, 8).command());
  EXPECT_NE(random_draw(3, 7).command(), random_draw(4, 7).command());
}

TEST(RandomDraw, KnowsEveryOptionOfItsSections) {
  for (const Option& option : option_table().options()) {
    if (!is_drawn_section(option)) continue;
    EXPECT_TRUE(has_drawn_values(option) || !reason_not_drawn(option).empty())
        << "--" << option.flag << " needs values or a reason in random_draws.cpp";
  }
}

// An option may be drawn but refused beside every other one: then it would never be tried.
TEST(RandomDraw, TriesEveryOptionInTwoThousandDraws) {
  std::set<std::string> flags, words;
  for (int64_t index = 0; index < 2000; ++index) {
    const RandomDraw draw = random_draw(kSeed, index);
    flags.insert(draw.flags.begin(), draw.flags.end());
    words.insert(draw.layout.flags.begin(), draw.layout.flags.end());
    EXPECT_GE(draw.layout.world_size, 2);
    EXPECT_LE(draw.layout.world_size, 8);
  }
  for (const Option& option : option_table().options()) {
    if (!is_drawn_section(option) || !reason_not_drawn(option).empty()) continue;
    EXPECT_TRUE(flags.contains("--" + option.flag)) << option.flag;
  }
  for (const char* flag :
       {"--sequence-parallel", "--tp-comm-overlap", "--num-virtual-stages-per-pipeline-rank",
        "--pipeline-model-parallel-layout", "--decoder-first-pipeline-num-layers",
        "--defer-embedding-wgrad-compute", "--variable-seq-lengths", "--use-distributed-optimizer",
        "--overlap-param-gather-with-optimizer-step", "optim_grads_params", "a2a", "allgather"}) {
    EXPECT_TRUE(words.contains(flag)) << flag;
  }
}

}  // namespace
}  // namespace megatron
