// Dispatch and combine with experts that return their input: every token comes back once for each of
// its experts, with its probability, and so does its gradient.
#include "megatron/expert_parallel/token_dispatcher.h"

#include <gmock/gmock.h>
#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using enum MoeTokenDispatcherType;

constexpr int64_t kTokenWidth = 3;

struct Tokens {
  at::Tensor hidden_states, probs, map;
};

// Some experts get no token, some tokens no expert, and probabilities are often equal.
Tokens random_tokens(int64_t tokens, int64_t experts, std::mt19937& random) {
  const auto draw = [&](int64_t below) { return int64_t(random() % uint64_t(below)); };
  Tokens result{at::empty({tokens, kTokenWidth}, at::kDouble),
                at::zeros({tokens, experts}, at::kDouble), at::zeros({tokens, experts}, at::kBool)};
  auto* hidden = result.hidden_states.data_ptr<double>();
  for (int64_t i = 0; i < tokens * kTokenWidth; ++i) hidden[i] = double(draw(1000)) / 100 - 5;
  const int64_t used = 1 + draw(experts);
  auto* map = result.map.data_ptr<bool>();
  auto* probs = result.probs.data_ptr<double>();
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t e = 0; e < used; ++e) {
      if (draw(3) > 0) continue;
      map[t * experts + e] = true;
      probs[t * experts + e] = double(1 + draw(4)) / 4;
    }
  }
  return result;
}

// Experts whose output is their input times its probability; with tensor parallelism each rank has
// its part of the sum.
at::Tensor identity_experts(const TokenDispatch& dispatch, double part) {
  return dispatch.hidden_states() * dispatch.probs().unsqueeze(1) * part;
}

void expect_round_trip(const TokenDispatcher& dispatcher, const Tokens& given, double part,
                       const RowPadding& padding) {
  const at::Tensor x = given.hidden_states.clone().set_requires_grad(true);
  const at::Tensor probs = given.probs.clone().set_requires_grad(true);
  const auto dispatch = dispatcher.dispatch(x, probs, given.map, padding);
  const at::Tensor counts = dispatch->counts();
  ASSERT_EQ(counts.sum().item<int64_t>(), dispatch->hidden_states().size(0));
  ASSERT_TRUE(counts.ge(padding.capacity).all().item<bool>());
  ASSERT_TRUE(counts.remainder(padding.multiple).eq(0).all().item<bool>());
  const at::Tensor output = dispatch->combine(identity_experts(*dispatch, part));
  const at::Tensor chosen = given.probs * given.map, sums = chosen.sum(1, true);
  ASSERT_TRUE(output.allclose(given.hidden_states * sums, 1e-12, 1e-12));
  const at::Tensor grad = at::cos(given.hidden_states);
  torch::autograd::backward({output}, {grad});
  ASSERT_TRUE(x.grad().allclose(grad * sums, 1e-12, 1e-12));
  const at::Tensor of_probs = (grad * given.hidden_states).sum(1, true) * given.map;
  ASSERT_TRUE(probs.grad().allclose(of_probs, 1e-12, 1e-12));
}

TEST(TokenDispatcher, NoTokenIsLostInTenThousandRandomRoutings) {
  std::mt19937 random(1);
  const auto groups = ProcessGroupCollection::single_rank();
  for (int round = 0; round < 10'000; ++round) {
    const int64_t experts = 1 + int64_t(random() % 6), tokens = 1 + int64_t(random() % 7);
    const auto dispatcher =
        make_token_dispatcher(round % 2 == 0 ? alltoall : allgather, experts, groups);
    const Tokens given = random_tokens(tokens, experts, random);
    expect_round_trip(*dispatcher, given, 1.0,
                      round % 5 == 0 ? RowPadding{.capacity = 8, .multiple = 2} : RowPadding{});
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
}

struct Grid {
  int tp, dp, ep, etp;
};

class DispatcherGrid : public testing::TestWithParam<Grid> {};

TEST_P(DispatcherGrid, BringsTokensToTheirExpertsAndBack) {
  const Grid grid = GetParam();
  const ParallelSizes sizes{.tp = grid.tp, .ep = grid.ep, .dp = grid.dp, .expt_tp = grid.etp};
  run_thread_world(grid.tp * grid.dp, [&](RankContext& rank) {
    const ProcessGroupCollection groups = rank.make_groups(sizes);
    const int64_t experts = 2 * grid.ep;
    for (const auto type : {alltoall, allgather}) {
      const auto dispatcher = make_token_dispatcher(type, experts, groups);
      std::mt19937 random(100 + rank.rank);
      for (int round = 0; round < 20; ++round) {
        // The all-gather needs equal numbers of tokens.
        const int64_t tokens = type == allgather ? 1 + round : 1 + int64_t(random() % 9);
        expect_round_trip(
            *dispatcher, random_tokens(tokens, experts, random), 1.0 / grid.etp,
            round % 4 == 0 ? RowPadding{.capacity = 0, .multiple = 16} : RowPadding{});
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Grids, DispatcherGrid,
                         testing::Values(Grid{1, 2, 2, 1}, Grid{1, 4, 4, 1}, Grid{1, 4, 2, 1},
                                         Grid{2, 1, 1, 2}, Grid{2, 1, 2, 1}, Grid{2, 2, 2, 2},
                                         Grid{1, 4, 2, 2}, Grid{2, 2, 4, 1}, Grid{1, 2, 1, 2},
                                         Grid{4, 1, 1, 2}, Grid{2, 4, 4, 2}, Grid{2, 4, 2, 4},
                                         Grid{4, 2, 8, 1}),
                         [](const auto& info) {
                           return fmt::format("tp{}_dp{}_ep{}_etp{}", info.param.tp, info.param.dp,
                                              info.param.ep, info.param.etp);
                         });

TEST(TokenDispatcher, ExpertsThatTheRanksDoNotDivideAreAnError) {
  run_thread_world(2, [](RankContext& rank) {
    const ProcessGroupCollection groups = rank.make_groups({.ep = 2, .dp = 2});
    EXPECT_THAT([&] { make_token_dispatcher(alltoall, 3, groups); },
                testing::ThrowsMessage<Error>(testing::HasSubstr("divides the 3 experts")));
  });
}

}  // namespace
}  // namespace megatron
