// TopKRouter: gradients, losses, padding, the expert bias, recomputation.
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/transformer/moe/topk_router.h"

#include "tests/transformer/moe/moe_fixture.h"

namespace megatron {
namespace {

constexpr int64_t kRouterPositions = 6, kRouterRows = 2, kRouterHidden = 8;

struct RouterVariant {
  const char* name;
  std::function<void(MoeConfig&)> apply;
};

// The gradient of what backward differentiates, sum(probs * weights) plus the losses, with respect
// to the router's weight and its input.
struct Gradients {
  at::Tensor weight, input;
};

Gradients gradients_of(const MoELayer& layer, const at::Tensor& input, const at::Tensor& weights) {
  const auto& router = *layer.router();
  const at::Tensor x = input.clone().set_requires_grad(true);
  for (const ParameterPtr& parameter : router.parameters()) parameter->data.mutable_grad().reset();
  const Routing routing = router.forward(x, moe_context(true, kRouterPositions, kRouterRows));
  torch::autograd::backward({(routing.probs * weights).sum()}, {});
  return {router.parameters()[0]->data.grad().clone(), x.grad().clone()};
}

// The same function, evaluated: losses are read from the record of a step.
double objective(const MoELayer& layer, const MoeConfig& config, const at::Tensor& input,
                 const at::Tensor& weights) {
  const at::NoGradGuard no_grad;
  ForwardContext context = moe_context(true, kRouterPositions, kRouterRows);
  const auto step = std::make_shared<MoeStep>();
  context.moe = std::make_shared<MoePass>(step, 1.0);
  const Routing routing = layer.router()->forward(input, context);
  double total = (routing.probs * weights).sum().item<double>();
  for (const auto& [name, value] : step->layers().at(0).losses) {
    const double coefficient =
        name == "load_balancing_loss"          ? config.aux_loss_coeff("aux_loss")
        : name == "seq_load_balancing_loss"    ? config.aux_loss_coeff("seq_aux_loss")
        : name == "global_load_balancing_loss" ? config.aux_loss_coeff("global_aux_loss")
                                               : *config.moe_z_loss_coeff;
    total += coefficient * value.item<double>();
  }
  return total;
}

class RouterGradients : public testing::TestWithParam<RouterVariant> {};

TEST_P(RouterGradients, EqualFiniteDifferences) {
  TransformerConfig config = moe_config(/*experts=*/6, /*topk=*/2);
  config.add_bias_linear = true;
  GetParam().apply(config.moe);
  const auto layer = build_moe(config);
  const at::Tensor input = moe_input(kRouterPositions, kRouterRows, kRouterHidden);
  const at::Tensor weights =
      at::cos(at::arange(kRouterPositions * kRouterRows * 6, at::kDouble) * 0.9).view({-1, 6});
  const Gradients gradients = gradients_of(*layer, input, weights);
  EXPECT_GT(gradients.weight.norm().item<double>(), 1e-3);
  const at::Tensor weight = layer->router()->parameters()[0]->data.detach();
  constexpr double kStep = 1e-6;
  const auto difference = [&](const at::Tensor& values, int64_t i) {
    const at::Tensor element = values.view(-1)[i];
    const double before = element.item<double>();
    element.fill_(before + kStep);
    const double above = objective(*layer, config.moe, input, weights);
    element.fill_(before - kStep);
    const double below = objective(*layer, config.moe, input, weights);
    element.fill_(before);
    return (above - below) / (2 * kStep);
  };
  for (int64_t i = 0; i < weight.numel(); i += 5)
    EXPECT_NEAR(difference(weight, i), gradients.weight.view(-1)[i].item<double>(), 1e-6) << i;
  for (int64_t i = 0; i < input.numel(); i += 7)
    EXPECT_NEAR(difference(input, i), gradients.input.view(-1)[i].item<double>(), 1e-6) << i;
}

void use_losses(MoeConfig& c, std::vector<std::string> types, std::vector<double> coefficients) {
  c.moe_router_load_balancing_type = std::move(types);
  c.moe_aux_loss_coeff = std::move(coefficients);
}

INSTANTIATE_TEST_SUITE_P(
    Variants, RouterGradients,
    testing::Values(
        RouterVariant{"softmax", [](MoeConfig&) {}},
        RouterVariant{"pre_softmax", [](MoeConfig& c) { c.moe_router_pre_softmax = true; }},
        RouterVariant{"sigmoid",
                      [](MoeConfig& c) {
                        c.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
                        c.moe_router_topk_scaling_factor = 2.5;
                      }},
        RouterVariant{"sqrtsoftplus",
                      [](MoeConfig& c) {
                        c.moe_router_score_function = MoeRouterScoreFunction::sqrtsoftplus;
                      }},
        RouterVariant{"sigmoid_top1",
                      [](MoeConfig& c) {
                        c.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
                        c.moe_router_topk = 1;
                      }},
        RouterVariant{"groups",
                      [](MoeConfig& c) {
                        c.moe_router_num_groups = 3;
                        c.moe_router_group_topk = 2;
                      }},
        RouterVariant{"sinkhorn",
                      [](MoeConfig& c) { c.moe_router_load_balancing_type = {"sinkhorn"}; }},
        RouterVariant{"aux", [](MoeConfig& c) { use_losses(c, {"aux_loss"}, {0.7}); }},
        RouterVariant{"seq", [](MoeConfig& c) { use_losses(c, {"seq_aux_loss"}, {0.7}); }},
        RouterVariant{"global", [](MoeConfig& c) { use_losses(c, {"global_aux_loss"}, {0.7}); }},
        RouterVariant{"several",
                      [](MoeConfig& c) {
                        use_losses(c, {"seq_aux_loss", "aux_loss"}, {0.3, 0.5});
                        c.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
                        c.moe_z_loss_coeff = 0.2;
                      }},
        RouterVariant{"z", [](MoeConfig& c) { c.moe_z_loss_coeff = 0.4; }},
        RouterVariant{"capacity",
                      [](MoeConfig& c) {
                        c.moe_expert_capacity_factor = 0.5;
                        use_losses(c, {"aux_loss"}, {0.7});
                      }}),
    [](const auto& info) { return info.param.name; });

MoeStep step_of(const MoELayer& layer, const at::Tensor& input, ForwardContext context) {
  const auto step = std::make_shared<MoeStep>();
  context.moe = std::make_shared<MoePass>(step, 1.0);
  layer.router()->forward(input, context);
  return *step;
}

double loss_of(const MoeStep& step, const std::string& name) {
  for (const auto& [known, value] : step.layers().at(0).losses)
    if (known == name) return value.item<double>();
  ADD_FAILURE() << "no loss " << name;
  return 0;
}

TEST(Router, PaddingTokensCountInNothing) {
  TransformerConfig config = moe_config(6, 2);
  use_losses(config.moe, {"aux_loss", "seq_aux_loss", "global_aux_loss"}, {0.1});
  config.moe.moe_z_loss_coeff = 0.1;
  const auto layer = build_moe(config);
  const at::Tensor input = moe_input(kRouterPositions, kRouterRows, kRouterHidden);
  const at::Tensor longer = at::cat({input, moe_input(3, kRouterRows, kRouterHidden, 5.0)});
  ForwardContext padded = moe_context(true, kRouterPositions + 3, kRouterRows);
  padded.padding_mask = at::zeros({kRouterRows, kRouterPositions + 3}, at::kBool);
  padded.padding_mask.narrow(1, kRouterPositions, 3).fill_(true);
  const MoeStep expected = step_of(*layer, input, moe_context(true, kRouterPositions, kRouterRows));
  const MoeStep got = step_of(*layer, longer, padded);
  for (const char* name :
       {"load_balancing_loss", "seq_load_balancing_loss", "global_load_balancing_loss", "z_loss"})
    EXPECT_NEAR(loss_of(got, name), loss_of(expected, name), 1e-12) << name;
  EXPECT_TRUE(got.layers()[0].load.equal(expected.layers()[0].load));
  const Routing routing = layer->router()->forward(longer, padded);
  EXPECT_FALSE(
      routing.map.narrow(0, kRouterPositions * kRouterRows, 3 * kRouterRows).any().item<bool>());
}

TEST(Router, SequenceLossDoesNotDependOnTheMicroBatchSize) {
  TransformerConfig config = moe_config(6, 2);
  use_losses(config.moe, {"seq_aux_loss"}, {0.1});
  const auto layer = build_moe(config);
  const at::Tensor input = moe_input(kRouterPositions, 4, kRouterHidden);
  const double together = loss_of(step_of(*layer, input, moe_context(true, kRouterPositions, 4)),
                                  "seq_load_balancing_loss");
  double alone = 0;
  for (int64_t row = 0; row < 4; ++row) {
    alone +=
        loss_of(step_of(*layer, input.narrow(1, row, 1), moe_context(true, kRouterPositions, 1)),
                "seq_load_balancing_loss") /
        4;
  }
  EXPECT_NEAR(together, alone, 1e-12);
}

TEST(Router, PackedSequencesCountAsSequences) {
  TransformerConfig config = moe_config(6, 2);
  use_losses(config.moe, {"seq_aux_loss"}, {0.1});
  const auto layer = build_moe(config);
  const at::Tensor input = moe_input(10, 1, kRouterHidden);
  ForwardContext packed = moe_context(true, 10, 1);
  packed.sequence_numbers = at::tensor({0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, at::kLong);
  double alone = 0;
  for (const auto& [first, length] : {std::pair{0, 4}, std::pair{4, 6}}) {
    alone += loss_of(step_of(*layer, input.narrow(0, first, length), moe_context(true, length, 1)),
                     "seq_load_balancing_loss") /
             2;
  }
  EXPECT_NEAR(loss_of(step_of(*layer, input, packed), "seq_load_balancing_loss"), alone, 1e-12);
}

// Counts of 6, 2 and 4 tokens give what 4, 4 and 4 give.
TEST(Router, GlobalLossDividesByTheTokensOfAllMicroBatchesSoFar) {
  TransformerConfig config = moe_config(6, 2);
  use_losses(config.moe, {"global_aux_loss"}, {0.1});
  const auto layer = build_moe(config);
  const at::Tensor input = moe_input(12, 1, kRouterHidden);
  const auto last = [&](std::vector<int64_t> sizes) {
    const auto step = std::make_shared<MoeStep>();
    double before = 0;
    int64_t first = 0;
    for (const int64_t size : sizes) {
      ForwardContext context = moe_context(true, size, 1);
      context.moe = std::make_shared<MoePass>(step, 1.0);
      before = step->layers().empty() ? 0 : loss_of(*step, "global_load_balancing_loss");
      layer->router()->forward(input.narrow(0, first, size), context);
      first += size;
    }
    return loss_of(*step, "global_load_balancing_loss") - before;
  };
  EXPECT_NEAR(last({6, 2, 4}), last({4, 4, 4}), 1e-12);
}

TEST(Router, ExpertBiasMovesTheChoiceAndNotTheProbabilities) {
  TransformerConfig config = moe_config(4, 1);
  config.moe.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
  config.moe.moe_router_enable_expert_bias = true;
  config.moe.moe_router_bias_update_rate = 0.5;
  const auto layer = build_moe(config);
  const TopKRouter& router = *layer->router();
  EXPECT_FALSE(router.expert_bias()->data.requires_grad());
  EXPECT_EQ(router.expert_bias()->data.scalar_type(), at::kFloat);
  router.expert_bias()->data.copy_(at::tensor({0.0, 0.0, 10.0, 0.0}));
  const at::Tensor input = moe_input(kRouterPositions, kRouterRows, kRouterHidden);
  const ForwardContext context = moe_context(true, kRouterPositions, kRouterRows);
  const Routing routing = router.forward(input, context);
  EXPECT_TRUE(routing.map.select(1, 2).all().item<bool>());
  const at::Tensor scores = at::linear(input, router.parameters()[0]->data).flatten(0, 1).sigmoid();
  EXPECT_TRUE(routing.probs.select(1, 2).allclose(scores.select(1, 2)));
  EXPECT_EQ(router.local_tokens_per_expert()->data[2].item<double>(),
            kRouterPositions * kRouterRows);
  router.update_expert_bias();
  const at::Tensor moved = at::tensor({0.5, 0.5, 9.5, 0.5}).to(at::kFloat);
  EXPECT_TRUE(router.expert_bias()->data.allclose(moved));
  EXPECT_EQ(router.local_tokens_per_expert()->data.sum().item<double>(), 0);
  // Evaluation does not count.
  router.forward(input, moe_context(false, kRouterPositions, kRouterRows));
  EXPECT_EQ(router.local_tokens_per_expert()->data.sum().item<double>(), 0);
}

TEST(Router, ForcedBalanceGivesEveryExpertAsManyTokens) {
  TransformerConfig config = moe_config(4, 2);
  config.moe.moe_router_force_load_balancing = true;
  const auto layer = build_moe(config);
  const Routing routing =
      layer->router()->forward(moe_input(kRouterPositions, kRouterRows, kRouterHidden),
                               moe_context(true, kRouterPositions, kRouterRows));
  EXPECT_TRUE(routing.map.sum(0).eq(kRouterPositions * kRouterRows * 2 / 4).all().item<bool>());
}

TEST(Router, JitterChangesTrainingOnlyAndDependsOnTheElementAlone) {
  TransformerConfig config = moe_config(6, 2);
  config.moe.moe_input_jitter_eps = 0.3;
  const auto layer = build_moe(config);
  const at::Tensor input = moe_input(kRouterPositions, kRouterRows, kRouterHidden);
  const auto probs = [&](bool training, int64_t first, int64_t count) {
    ForwardContext context = moe_context(training, kRouterPositions, kRouterRows);
    context.positions = context.residual_positions = at::arange(first, first + count, at::kLong);
    return layer->router()->forward(input.narrow(0, first, count), context).probs;
  };
  EXPECT_FALSE(probs(true, 0, kRouterPositions).allclose(probs(false, 0, kRouterPositions)));
  EXPECT_TRUE(probs(true, 0, kRouterPositions)
                  .narrow(0, 2 * kRouterRows, 4 * kRouterRows)
                  .allclose(probs(true, 2, 4)));
}

}  // namespace
}  // namespace megatron
