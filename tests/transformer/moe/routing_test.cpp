// The choice of experts against a reference that follows the definition token by token.
#include "megatron/transformer/moe/routing.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/transformer/moe/router_scores.h"

namespace megatron {
namespace {

using Row = std::vector<double>;

// The k best indices; of equal values the first is better.
std::vector<int64_t> best(const Row& values, int64_t k) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return values[a] > values[b]; });
  order.resize(k);
  return order;
}

std::vector<int64_t> reference_choice(const Row& scores, const ExpertChoice& choice) {
  if (choice.num_groups == 0) return best(scores, choice.topk);
  const int64_t size = std::ssize(scores) / choice.num_groups;
  Row groups;
  for (int64_t g = 0; g < choice.num_groups; ++g) {
    const Row group(scores.begin() + g * size, scores.begin() + (g + 1) * size);
    double sum = 0;
    for (const int64_t i : best(group, choice.topk / choice.group_topk)) sum += group[i];
    groups.push_back(sum);
  }
  Row masked(scores.size(), -INFINITY);
  for (const int64_t g : best(groups, choice.group_topk))
    std::copy_n(scores.begin() + g * size, size, masked.begin() + g * size);
  return best(masked, choice.topk);
}

TEST(Routing, ChoosesAsTheDefinitionOverRandomShapesWithTies) {
  std::mt19937 random(5);
  const auto draw = [&](int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random);
  };
  for (int round = 0; round < 500; ++round) {
    ExpertChoice choice;
    int64_t experts = draw(1, 12);
    choice.topk = draw(1, experts);
    if (round % 2 == 1) {
      const int64_t size = draw(1, 4);
      choice.num_groups = draw(1, 4);
      choice.group_topk = draw(1, choice.num_groups);
      experts = size * choice.num_groups;
      choice.topk = choice.group_topk * draw(1, size);
    }
    const int64_t tokens = draw(1, 9);
    // Few different values, so that many scores are equal.
    const at::Tensor scores = at::empty({tokens, experts}, at::kDouble);
    for (int64_t i = 0; i < scores.numel(); ++i)
      scores.view(-1)[i] = double(draw(0, round % 3 == 0 ? 2 : 1000)) / 7;
    const at::Tensor chosen = choose_experts(scores, choice);
    ASSERT_EQ(chosen.sizes(), (at::IntArrayRef{tokens, choice.topk}));
    for (int64_t t = 0; t < tokens; ++t) {
      const at::Tensor row = scores[t].contiguous(), of_token = chosen[t].contiguous();
      const Row values(row.data_ptr<double>(), row.data_ptr<double>() + experts);
      const std::vector<int64_t> ours(of_token.data_ptr<int64_t>(),
                                      of_token.data_ptr<int64_t>() + choice.topk);
      EXPECT_EQ(ours, reference_choice(values, choice)) << "round " << round << ", token " << t;
    }
    EXPECT_TRUE(routing_map_of(chosen, experts).sum(1).eq(choice.topk).all().item<bool>());
  }
}

TEST(Routing, AnExpertKeepsTheTokensOfTheHighestProbabilityOrTheFirst) {
  const at::Tensor chosen = at::tensor({1, 1, 1, 0, 1}, at::kInt).to(at::kBool).unsqueeze(1);
  const at::Tensor probs = at::tensor({0.3, 0.5, 0.5, 0.9, 0.4}, at::kDouble).unsqueeze(1);
  const auto kept = [&](int64_t capacity, MoeTokenDropPolicy policy) {
    return within_capacity(chosen, probs, capacity, policy).squeeze(1).nonzero().view(-1);
  };
  constexpr auto position = MoeTokenDropPolicy::position;
  EXPECT_TRUE(kept(2, MoeTokenDropPolicy::probs).equal(at::tensor({1, 2}, at::kLong)));
  EXPECT_TRUE(kept(1, MoeTokenDropPolicy::probs).equal(at::tensor({1}, at::kLong)));
  EXPECT_TRUE(kept(2, position).equal(at::tensor({0, 1}, at::kLong)));
  EXPECT_TRUE(kept(4, position).equal(at::tensor({0, 1, 2, 4}, at::kLong)));
  EXPECT_EQ(expert_capacity(10, 2, 4, 1.0), 5);
  EXPECT_EQ(expert_capacity(10, 2, 4, 1.25), 7);
}

TEST(Routing, SinkhornBalancesAndLeavesPaddingOut) {
  const at::Tensor logits = at::sin(at::arange(32, at::kDouble) * 2.3).view({8, 4}) * 2;
  const at::Tensor scores = sinkhorn(logits, {});
  EXPECT_LT((scores.sum(0) - 0.25).abs().max().item<double>(), 1e-3);
  const at::Tensor valid = at::tensor({1, 1, 1, 1, 1, 0, 0, 0}, at::kInt).to(at::kBool);
  const at::Tensor masked = sinkhorn(logits, valid);
  EXPECT_TRUE(masked.narrow(0, 0, 5).allclose(sinkhorn(logits.narrow(0, 0, 5), {}), 1e-9, 1e-9));
  EXPECT_EQ(masked.narrow(0, 5, 3).abs().max().item<double>(), 0);
}

TEST(RouterScores, ProbabilitiesFollowTheirFormulas) {
  const at::Tensor logits = at::tensor({0.5, -1.0, 2.0, 0.1}, at::kDouble).unsqueeze(0);
  const at::Tensor chosen = at::tensor({1, 0, 1, 0}, at::kInt).to(at::kBool).unsqueeze(0);
  MoeConfig config;
  config.num_moe_experts = 4;
  const auto expect = [&](double first, double second) {
    const at::Tensor probs = expert_probabilities(logits, chosen, config);
    EXPECT_NEAR(probs[0][0].item<double>(), first, 1e-12);
    EXPECT_NEAR(probs[0][2].item<double>(), second, 1e-12);
    EXPECT_EQ(probs[0][1].item<double>(), 0);
    EXPECT_EQ(probs[0][3].item<double>(), 0);
  };
  const double a = std::exp(0.5), b = std::exp(2.0), all = a + b + std::exp(-1.0) + std::exp(0.1);
  expect(a / (a + b), b / (a + b));
  config.moe_router_topk_scaling_factor = 2.5;
  expect(2.5 * a / (a + b), 2.5 * b / (a + b));
  config.moe_router_topk_scaling_factor.reset();
  config.moe_router_pre_softmax = true;
  expect(a / all, b / all);
  config.moe_router_pre_softmax = false;
  config.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
  const double p = 1 / (1 + std::exp(-0.5)), q = 1 / (1 + std::exp(-2.0));
  expect(p / (p + q), q / (p + q));
  config.moe_router_score_function = MoeRouterScoreFunction::sqrtsoftplus;
  const double u = std::sqrt(std::log1p(a)), v = std::sqrt(std::log1p(b));
  expect(u / (u + v), v / (u + v));
}

}  // namespace
}  // namespace megatron
